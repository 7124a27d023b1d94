"""Tests of AttentionCell against a loop in NumPy, in keras.layers.RNN, in the functional API, and step by step."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.layers import (
    AdditiveAttention,
    AttentionCell,
    AttentionPooling,
    AttentionRNN,
    DotAttention,
    ESNCell,
    MonotonicAttention,
    PeepholeLSTMCell,
)

from .check_attention_rnn import additive, lstm, run, stacked

GENERATOR = np.random.default_rng(8)
X = GENERATOR.normal(size=(3, 5, 2))
MEMORY = GENERATOR.normal(size=(3, 7, 4))
MEMORY_MASK = np.array([[1] * 7, [1, 1, 1, 0, 0, 0, 0], [0] * 7], bool)
JUNK = np.where(MEMORY_MASK[..., None], MEMORY, np.nan)
MASK = np.array([[1] * 5, [1, 1, 1, 0, 0], [0, 1, 1, 0, 1]], bool)
STACKS = {"stack": ["lstm", "lstm"], "stack of three kinds": ["gru", "esn", "peephole"]}


def cell_of(kind, **arguments):
    arguments = {"dtype": "float64", **arguments}
    if kind in STACKS:
        return keras.layers.StackedRNNCells([cell_of(each, **arguments) for each in STACKS[kind]], dtype="float64")
    kinds = {"lstm": keras.layers.LSTMCell, "gru": keras.layers.GRUCell, "peephole": PeepholeLSTMCell}
    if kind == "esn":
        return ESNCell(6, fan_in=3, seed=1, dtype=arguments["dtype"])
    return kinds[kind](6, **arguments)


def randomized(kind="lstm", cell=None, **arguments):
    arguments = {"attention_activation": "tanh", "dtype": "float64", **arguments}
    layer = AttentionCell(cell or cell_of(kind), AdditiveAttention(8, dtype="float64"), **arguments)
    layer.build((None, 2), (None, None, 4))
    generator = np.random.default_rng(9)
    layer.set_weights([generator.normal(0, 0.5, weight.shape) for weight in layer.get_weights()])
    return layer


def in_numpy(layer, **options):
    weights = layer.get_weights()
    kernel = weights.pop(0) if layer.attention_units else None
    attend = additive(weights[-4:], np.where(MEMORY_MASK[..., None], MEMORY, 0), MEMORY_MASK[:, :])
    cells = [lstm(weights[n : n + 3]) for n in range(0, len(weights) - 4, 3)]
    states = [np.zeros((3, 6))] * 2 * len(cells)
    options = {"query": layer.query, "input_feeding": layer.input_feeding, "top": len(states) - 2, **options}
    return run(stacked(cells, [2] * len(cells)), attend, X, states, MEMORY, kernel, **options)


VARIANTS = [
    {"attention_units": 5},
    {"kind": "stack"},
    {"attention_units": 5, "query": "previous"},
    {"query": "previous", "kind": "stack", "output": "cell"},
    {"attention_units": 5, "input_feeding": False},
    {"attention_units": 5, "output": "cell", "kind": "stack"},
]


@pytest.mark.parametrize("arguments", VARIANTS)
def test_steps_match_the_loop_in_numpy(arguments):
    layer = randomized(**arguments)
    attentions, outputs, alignments, last = in_numpy(layer)
    prepared = layer.prepare(JUNK, MEMORY_MASK)
    states = layer.start(prepared)
    for t in range(5):
        output, states = layer.step(X[:, t], states, prepared)
        expected = outputs if arguments.get("output") == "cell" else attentions
        np.testing.assert_allclose(output, expected[:, t], atol=1e-12)
        np.testing.assert_allclose(states[-1], alignments[:, t], atol=1e-12)
        np.testing.assert_allclose(states[-2], attentions[:, t], atol=1e-12)
    assert not states[-1][2].numpy().any() and len(states) == len(last) + 2
    for one, other in zip(states, last, strict=False):
        np.testing.assert_allclose(one, other, atol=1e-12)


@pytest.mark.parametrize("arguments", VARIANTS)
@pytest.mark.parametrize("mask", [None, MASK])
def test_the_keras_loop_matches_the_loop_in_numpy(arguments, mask):
    layer = randomized(**arguments)
    attentions, outputs, alignments, last = in_numpy(layer, mask=mask)
    loop = keras.layers.RNN(layer, return_sequences=True, return_state=True, dtype="float64")
    states = layer.get_initial_state(memory=JUNK, memory_mask=MEMORY_MASK)
    output, *states = loop(X, initial_state=states, mask=mask)
    np.testing.assert_allclose(output, outputs if arguments.get("output") == "cell" else attentions, atol=1e-12)
    for one, other in zip(states[:-2], [*last, attentions[:, -1], alignments[:, -1]], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def functional(cell, units=4):
    x, memory, mask = keras.Input((None, 2)), keras.Input((None, 4)), keras.Input((None,), dtype="bool")
    states = cell.get_initial_state(memory=memory, memory_mask=mask)
    output = keras.layers.RNN(cell, return_sequences=True)(x, initial_state=states)
    return keras.Model([x, memory, mask], keras.layers.Dense(units)(output))


@pytest.mark.parametrize(("kind", "query"), [("lstm", "previous"), ("stack of three kinds", "new")])
def test_trains_and_is_saved_in_the_functional_api(kind, query, tmp_path):
    cell = cell_of(kind, dtype="float32", dropout=0.2, recurrent_dropout=0.1)
    model = functional(AttentionCell(cell, AdditiveAttention(8), 5, "tanh", query))
    before = model.get_weights()
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=False, run_eagerly=query == "previous")
    inputs = [X, MEMORY, MEMORY_MASK]
    history = model.fit(inputs, MEMORY[:, :5], epochs=2, verbose=0).history["loss"]
    assert np.isfinite(history).all()
    changed = [(one != other).any() for one, other in zip(before, model.get_weights(), strict=True)]
    assert sum(changed) == len(model.trainable_weights)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    expected = model(inputs)
    np.testing.assert_array_equal(loaded(inputs), expected)
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    np.testing.assert_array_equal(twin(inputs), expected)


def test_an_exported_model_gives_equal_results(tmp_path):
    model = functional(AttentionCell(cell_of("stack", dtype="float32"), AdditiveAttention(8)))
    inputs = [X.astype("float32"), MEMORY.astype("float32"), MEMORY_MASK]
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(exported.serve(inputs), model(inputs), atol=1e-6)
    fewer = [inputs[0][:2, :3], inputs[1][:2, :6], inputs[2][:2, :6]]
    np.testing.assert_allclose(exported.serve(fewer), model(fewer), atol=1e-6)


def test_the_keras_mask_of_the_memory_is_used():
    source = keras.layers.Embedding(9, 4, mask_zero=True, dtype="float64")(np.array([[1, 2, 0, 0], [3, 4, 5, 0]]))
    cell = randomized()
    states = cell.get_initial_state(memory=source)
    np.testing.assert_array_equal(states[-1], [[1, 1, 0, 0], [1, 1, 1, 0]])
    tokens = keras.Input((None,), dtype="int32")
    memory = keras.layers.Embedding(9, 4, mask_zero=True)(tokens)
    x = keras.Input((None, 2))
    cell = AttentionCell(keras.layers.GRUCell(6), AdditiveAttention(8))
    model = keras.Model([x, tokens], keras.layers.RNN(cell)(x, initial_state=cell.get_initial_state(memory=memory)))
    row = np.array([[1, 2, 3]])
    np.testing.assert_allclose(model([X[:1], np.pad(row, [[0, 0], [0, 2]])]), model([X[:1], row]), atol=1e-6)


def test_initial_states_may_be_given_learned_or_zero():
    layer = randomized("stack")
    prepared = layer.prepare(MEMORY)
    given = [GENERATOR.normal(size=(3, 6)) for _ in range(4)]
    for states in (layer.start(prepared, given), layer.start(prepared, [given[:2], given[2:]])):
        assert all((one == other).numpy().all() for one, other in zip(states[:4], given, strict=True))
        assert [state.shape for state in states[4:]] == [(3, 4), (3, 7)]
    with pytest.raises(
        ValueError, match=r"states of the cell with \[6, 6, 6, 6\] features. Received: shapes \[\(3, 6\)"
    ):
        layer.start(prepared, given[:3])
    learned = randomized("peephole", cell_of("peephole", learn_initial_state=True))
    start = learned.start(learned.prepare(MEMORY))
    np.testing.assert_allclose(start[0][1], learned.cell.get_weights()[-2])
    with pytest.raises(ValueError, match="`cell_states`, or AttentionRNN, for a cell that learns its initial state"):
        learned.get_initial_state(memory=keras.KerasTensor((None, 7, 4)))


def test_monotonic_attention_continues_from_the_previous_step():
    attention = MonotonicAttention("general", mode="parallel")
    layer = AttentionCell(keras.layers.GRUCell(6), attention, output="cell")
    layer.build((None, 2), (None, None, 4))
    prepared = layer.prepare(MEMORY)
    states, outputs, alignments = layer.start(prepared), [], []
    np.testing.assert_array_equal(states[-1], np.eye(1, 7).repeat(3, axis=0))
    for t in range(5):
        output, states = layer.step(X[:, t], states, prepared)
        outputs.append(output)
        alignments.append(states[-1])
    _, expected = attention(np.stack(outputs, 1), MEMORY, return_attention_scores=True)
    np.testing.assert_allclose(np.stack(alignments, 1), expected, atol=1e-6)


def test_dropout_masks_are_drawn_once_per_call():
    layer = randomized(cell=cell_of("peephole", dropout=0.5, recurrent_dropout=0.5, seed=1))
    loop = keras.layers.RNN(layer, return_sequences=True, dtype="float64")
    states = layer.get_initial_state(memory=MEMORY)
    one, other = (loop(X, initial_state=states, training=True) for _ in range(2))
    assert np.abs(one - other).max() > 1e-3
    assert layer.cell._dropout_mask is None and layer.cell._recurrent_dropout_mask is None
    prepared = layer.prepare(MEMORY)
    states = layer.start(prepared, training=True)
    drawn = layer.cell._dropout_mask
    assert drawn.shape == (3, 2 + 4) and set(np.unique(drawn)) == {0, 2}
    for t in range(2):
        _, states = layer.step(X[:, t], states, prepared, training=True)
        assert layer.cell._dropout_mask is drawn
    layer.start(prepared, training=True)
    assert layer.cell._dropout_mask is not drawn
    np.testing.assert_array_equal(*(loop(X, initial_state=layer.get_initial_state(memory=MEMORY)) for _ in range(2)))


def test_config_round_trip():
    layer = randomized("stack", attention_units=5, output="cell", query="previous", name="decoder")
    config = json.loads(json.dumps(layer.get_config()))
    twin = AttentionCell.from_config(json.loads(json.dumps(config)))  # a copy, because Keras cells remove keys
    assert json.loads(json.dumps(twin.get_config())) == config
    names = [weight.path.split("/", 1)[1].split("/")[-1] for weight in layer.weights]
    assert names == ["attention_kernel", *["kernel", "recurrent_kernel", "bias"] * 2, "scale", "bias", "query_kernel", "key_kernel"]  # fmt: skip  # noqa: E501
    assert len({weight.path for weight in layer.weights}) == len(names)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(policy):
    results = []
    for dtype in (policy, "float32"):
        cell = AttentionCell(keras.layers.GRUCell(6, dtype=dtype), AdditiveAttention(8, dtype=dtype), 5, dtype=dtype)
        cell.build((None, 2), (None, None, 4))
        generator = np.random.default_rng(9)
        cell.set_weights([generator.normal(0, 0.5, weight.shape) for weight in cell.get_weights()])
        states = cell.get_initial_state(memory=JUNK, memory_mask=MEMORY_MASK)
        results.append(keras.layers.RNN(cell, return_sequences=True, dtype=dtype)(X, initial_state=states))
    assert results[0].dtype.name == policy.removeprefix("mixed_")
    np.testing.assert_allclose(tf.cast(results[0], "float32"), results[1], atol=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"attention_units": 0}, "`attention_units` must be an integer of at least 1. Received: 0"),
        ({"query": "old"}, "`query` must be 'new' or 'previous'. Received: 'old'"),
        ({"output": "both"}, "`output` must be 'attention' or 'cell'. Received: 'both'"),
        ({"query": "previous", "input_feeding": False}, "`input_feeding=False` requires `query='new'`"),
    ],
)
def test_invalid_arguments_raise_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        AttentionCell(keras.layers.GRUCell(6), DotAttention(), **arguments)


def test_a_missing_or_invalid_memory_raises_an_error():
    cell = AttentionCell(keras.layers.GRUCell(6), AdditiveAttention(8))
    with pytest.raises(ValueError, match=r"Expected a memory: .*get_initial_state\(memory=...\)"):
        keras.layers.RNN(cell)(X)
    with pytest.raises(ValueError, match=r"build\(input_shape, memory_shape\). Received: none"):
        cell.build((None, 2))
    with pytest.raises(ValueError, match=r"Expected `value` of shape \[B, S, features\]. Received: \(3, 4\)"):
        cell.get_initial_state(memory=MEMORY[:, 0])
    with pytest.raises(ValueError, match=r"Expected `value_mask` of shape \[B, S\]. Received: \(3, 7, 1\)"):
        cell.prepare(MEMORY, MEMORY_MASK[..., None])
    with pytest.raises(ValueError, match="memory with at least one step"):
        cell.prepare(MEMORY[:, :0])


def test_an_invalid_memory_does_not_change_a_built_cell():
    cell = AttentionCell(keras.layers.GRUCell(6), AdditiveAttention(8))
    expected = AttentionRNN(cell)(X, MEMORY)
    with pytest.raises(ValueError, match=r"Expected a memory: .*get_initial_state"):
        keras.layers.RNN(cell)(X)
    wider = np.pad(MEMORY, [[0, 0], [0, 0], [0, 3]])
    for use in (lambda: cell.get_initial_state(memory=wider), lambda: cell.prepare(wider)):
        with pytest.raises(ValueError, match=r"memory with 4 features, as in `build`. Received: .*3, 7, 7\)"):
            use()
    assert cell.output_size == 4 and cell.get_build_config()["memory_shape"] == (None, None, 4)
    np.testing.assert_array_equal(AttentionRNN(cell)(X, MEMORY), expected)


@pytest.mark.parametrize(
    "attention", ["additive", AdditiveAttention, keras.layers.Attention(), AttentionPooling(4), None]
)
def test_an_invalid_attention_raises_an_error(attention):
    with pytest.raises(ValueError, match="`attention` must be an attention layer of keras_dl.layers.* Received: "):
        AttentionCell(keras.layers.GRUCell(6), attention)


@pytest.mark.parametrize("cell", [keras.layers.LSTM(4), keras.layers.LSTMCell, keras.layers.Dense(4), "lstm", 6])
def test_an_invalid_cell_raises_an_error(cell):
    with pytest.raises(ValueError, match="`cell` must be a recurrent cell, such as .* Received: "):
        AttentionCell(cell, DotAttention())
