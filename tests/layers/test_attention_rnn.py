"""Tests of AttentionRNN against a loop in NumPy and the Keras loop; padding, saving, training and export."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.layers import AdditiveAttention, AttentionCell, AttentionRNN, PeepholeLSTMCell

from .check_attention_rnn import additive, lstm, run

GENERATOR = np.random.default_rng(10)
X = GENERATOR.normal(size=(3, 5, 2)).astype("float32")
MEMORY = GENERATOR.normal(size=(3, 7, 4)).astype("float32")
MEMORY_MASK = np.array([[1] * 7, [1, 1, 1, 0, 0, 0, 0], [0] * 7], bool)
MASK = np.array([[1] * 5, [1, 1, 1, 0, 0], [0, 1, 1, 0, 1]], bool)
EVERYTHING = {"return_state": True, "return_alignments": True}


def randomized(dtype="float32", cell=None, units=5, **options):
    cell = cell or keras.layers.LSTMCell(6, dtype=dtype)
    names = ("query", "output", "input_feeding")
    own = {name: options.pop(name) for name in names if name in options}
    cell = AttentionCell(cell, AdditiveAttention(8, dtype=dtype), units, "tanh", dtype=dtype, **own)
    layer = AttentionRNN(cell, dtype=dtype, **options)
    layer.build(X.shape, MEMORY.shape)
    generator = np.random.default_rng(9)
    layer.set_weights([generator.normal(0, 0.5, weight.shape) for weight in layer.get_weights()])
    return layer


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-12)])
@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("query", ["new", "previous"])
def test_matches_the_loop_in_numpy(dtype, tolerance, mask, query):
    layer = randomized(dtype, query=query, **EVERYTHING)
    kernel, *weights = (weight.astype("float64") for weight in layer.get_weights())
    attend = additive(weights[3:], np.where(MEMORY_MASK[..., None], MEMORY, 0), MEMORY_MASK)
    states = [np.zeros((3, 6))] * 2
    outputs, _, alignments, last = run(lstm(weights[:3]), attend, X, states, MEMORY, kernel, query, mask=mask)
    found = layer(X, MEMORY, mask=mask, memory_mask=MEMORY_MASK)
    expected = [outputs, alignments, *last, outputs[:, -1], alignments[:, -1]]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance)


def with_gradient(layer, *inputs, **options):
    inputs = [tf.constant(x) for x in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        output = layer(*inputs, **options)
        total = tf.reduce_sum(tf.sin(output))
    return [output, *tape.gradient(total, [*inputs, *(weight.value for weight in layer.trainable_weights)])]


@pytest.mark.parametrize("mask", [None, MASK])
def test_matches_the_keras_loop_over_the_cell(mask):
    layer = randomized(output="cell")
    loop = keras.layers.RNN(layer.cell, return_sequences=True)

    def by_keras(x, memory, mask, memory_mask):
        return loop(x, initial_state=layer.cell.get_initial_state(memory=memory, memory_mask=memory_mask), mask=mask)

    by_keras.trainable_weights = layer.trainable_weights
    for one, other in zip(
        *(with_gradient(each, X, MEMORY, mask=mask, memory_mask=MEMORY_MASK) for each in (layer, by_keras)), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_padding_has_no_effect():
    layer = randomized()
    junk = np.resize(np.float32([np.nan, 1e6, np.inf]), X.shape), np.resize(np.float32([np.nan, -np.inf]), MEMORY.shape)
    masks = {"mask": MASK, "memory_mask": MEMORY_MASK}
    wrong = [np.where(mask[..., None], *pair) for mask, *pair in ((MASK, X, junk[0]), (MEMORY_MASK, MEMORY, junk[1]))]
    expected, found = with_gradient(layer, X, MEMORY, **masks), with_gradient(layer, *wrong, **masks)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert not found[1].numpy()[~MASK].any() and not found[2].numpy()[~MEMORY_MASK].any()
    shorter = layer(X[1:2, :3], MEMORY[1:2, :3])
    np.testing.assert_allclose(found[0][1:2, :3], shorter, atol=1e-6)
    np.testing.assert_allclose(found[0][1, 3:], np.repeat(shorter[0, -1:], 2, axis=0), atol=1e-6)


def test_keras_masks_are_used_and_propagated():
    tokens, source = np.array([[1, 2, 3], [4, 0, 0]]), np.array([[3, 1, 0], [2, 2, 5]])
    x = keras.layers.Embedding(7, 2, mask_zero=True)(tokens)
    memory = keras.layers.Embedding(7, 4, mask_zero=True)(source)
    layer = randomized(return_alignments=True)
    output, alignments = layer(x, memory)
    plain = [tf.identity(x), tf.identity(memory)]
    expected, _ = layer(*plain, mask=tokens > 0, memory_mask=source > 0)
    np.testing.assert_allclose(output, expected, atol=1e-6)
    assert not alignments.numpy()[0, :, 2].any() and alignments.numpy()[1, :, 2].all()
    np.testing.assert_array_equal(output._keras_mask, tokens > 0)
    assert getattr(randomized(return_sequences=False)(x, memory), "_keras_mask", None) is None


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("state", [True, False])
@pytest.mark.parametrize("alignments", [True, False])
def test_computed_shapes_match_the_results(sequences, state, alignments):
    layer = randomized(return_sequences=sequences, return_state=state, return_alignments=alignments)
    found = layer(X, MEMORY)
    shapes = layer.compute_output_shape(X.shape, MEMORY.shape)
    assert tf.nest.map_structure(lambda x: tuple(x.shape), found) == shapes
    whole = randomized(**EVERYTHING)(X, MEMORY)
    expected = [whole[0] if sequences else whole[0][:, -1], *whole[1:2][:alignments], *whole[2:][: 4 * state]]
    for one, other in zip(tf.nest.flatten(found), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    symbolic = tf.nest.flatten(layer(keras.KerasTensor((None, None, 2)), keras.KerasTensor((None, None, 4))))
    assert [len(tensor.shape) for tensor in symbolic] == [len(tensor.shape) for tensor in tf.nest.flatten(found)]
    assert symbolic[0].shape[-1] == 5 and symbolic[0].shape[0] is None


def test_continues_from_returned_and_given_states():
    layer = randomized(**EVERYTHING)
    whole = layer(X, MEMORY)
    first = layer(X[:, :3], MEMORY)
    second = layer(X[:, 3:], MEMORY, initial_state=list(first[2:]))
    np.testing.assert_allclose(np.concatenate([first[0], second[0]], 1), whole[0], atol=1e-6)
    given = [np.ones((3, 6), "float32"), np.zeros((3, 6), "float32")]
    assert np.abs(layer(X, MEMORY, initial_state=given)[0] - whole[0]).max() > 1e-3
    with pytest.raises(ValueError, match=r"states of the cell with \[6, 6\] features"):
        layer(X, MEMORY, initial_state=given[:1])
    learned = randomized(cell=PeepholeLSTMCell(6, learn_initial_state=True))
    slopes = with_gradient(learned, X, MEMORY)[3:]
    assert len(slopes) == 1 + 8 + 4 and all(np.abs(slope).max() > 0 for slope in slopes)


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_trains_is_saved_and_exported(compiled, tmp_path):
    x, memory = (keras.Input((None,), dtype="int32") for _ in range(2))
    embedded = [keras.layers.Embedding(7, size, mask_zero=True)(each) for each, size in ((x, 2), (memory, 4))]
    cell = keras.layers.StackedRNNCells([keras.layers.GRUCell(5, dropout=0.1), keras.layers.LSTMCell(6)])
    cell = AttentionCell(cell, AdditiveAttention(8, dropout=0.1), 5, "tanh")
    output, alignments = AttentionRNN(cell, return_alignments=True)(*embedded)
    model = keras.Model([x, memory], [keras.layers.Dense(7)(output), alignments])
    model.compile(keras.optimizers.Adam(0.02), ["mse", None], jit_compile=compiled, run_eagerly=not compiled)
    inputs = [GENERATOR.integers(0, 7, (8, 4)).astype("int32"), GENERATOR.integers(0, 7, (8, 6)).astype("int32")]
    before = model.get_weights()
    history = model.fit(inputs, [np.eye(7)[inputs[1][:, :4]], None], epochs=6, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert all((one != other).any() for one, other in zip(before, model.get_weights(), strict=True))
    if compiled:
        return
    expected = model(inputs)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    for answer in (loaded(inputs), exported.serve(inputs)):
        for one, other in zip(answer, expected, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
    fewer = [inputs[0][:2, :3], inputs[1][:2, :5]]
    np.testing.assert_allclose(exported.serve(fewer)[0], model(fewer)[0], atol=1e-6)


def test_config_round_trip():
    layer = randomized(return_sequences=False, name="decoder", **EVERYTHING)
    config = json.loads(json.dumps(layer.get_config()))
    twin = AttentionRNN.from_config(json.loads(json.dumps(config)))
    assert json.loads(json.dumps(twin.get_config())) == config
    assert len(twin.cell.weights) == len(layer.weights)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(policy):
    layers = [randomized(dtype) for dtype in (policy, "float32")]
    found, expected = (layer(X, MEMORY, mask=MASK, memory_mask=MEMORY_MASK) for layer in layers)
    assert found.dtype.name == policy.removeprefix("mixed_")
    np.testing.assert_allclose(tf.cast(found, "float32"), expected, atol=0.05)


def test_dropout_is_applied_only_in_training():
    layer = randomized(cell=PeepholeLSTMCell(6, dropout=0.5, recurrent_dropout=0.5, seed=1))
    assert np.abs(layer(X, MEMORY, training=True) - layer(X, MEMORY, training=True)).max() > 1e-3
    assert layer.cell.cell._dropout_mask is None
    np.testing.assert_array_equal(layer(X, MEMORY), layer(X, MEMORY))


def test_invalid_input_raises_an_error():
    with pytest.raises(ValueError, match="`cell` must be an AttentionCell. Received: <GRUCell"):
        AttentionRNN(keras.layers.GRUCell(6))
    layer = randomized()
    for inputs, options, message in (
        ((X[:, 0], MEMORY), {}, r"`sequence` of shape \[B, T, features\]. Received: \(3, 2\)"),
        ((X, MEMORY[0]), {}, r"`memory` of shape \[B, S, features\]. Received: \(7, 4\)"),
        ((X, MEMORY), {"mask": MASK[..., None]}, r"`mask` of shape \[B, T\]. Received: \(3, 5, 1\)"),
        ((X, MEMORY), {"memory_mask": MEMORY_MASK[0]}, r"`value_mask` of shape \[B, S\]. Received: \(7,\)"),
        ((X, MEMORY[:, :0]), {}, "memory with at least one step"),
    ):
        with pytest.raises(ValueError, match=message):
            layer(*inputs, **options)
