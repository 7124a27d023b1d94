"""Tests of PeepholeLSTM and its cell: the general checks, and the cell in the Keras loop."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl import layers
from keras_dl.layers import PeepholeLSTM, PeepholeLSTMCell

from .check_layer import check_layer

INPUTS = np.random.default_rng(1).normal(size=(3, 7, 4))
HOLES = np.array([[1, 1, 0, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1, 1], [0] * 7], bool)


def randomized(layer, inputs=INPUTS):
    layer.build(inputs.shape)
    generator = np.random.default_rng(2)
    layer.set_weights([generator.normal(0, 0.5, weight.shape) for weight in layer.get_weights()])
    return layer


def with_gradient(layer, inputs, **options):
    inputs = tf.cast(inputs, layer.compute_dtype)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        results = tf.nest.flatten(layer(inputs, **options))
        total = sum(tf.reduce_sum(tf.sin(result) + result**2) for result in results)
    weights = [weight.value for weight in layer.trainable_weights]
    return [*results, *tape.gradient(total, [inputs, *weights])]


@pytest.mark.parametrize(
    "arguments",
    [
        {"learn_initial_state": True, "peephole_regularizer": keras.regularizers.L2(0.01)},
        {"activation": "softsign", "use_bias": False, "coupled_gates": True},
    ],
)
def test_behaves_as_a_sequence_layer(arguments, tmp_path):
    regularizer = arguments.get("peephole_regularizer")
    if regularizer:
        arguments = {**arguments, "peephole_regularizer": keras.regularizers.serialize(regularizer)}
    arguments = {"units": 5, "return_sequences": True, **arguments}
    check_layer(PeepholeLSTM, arguments, INPUTS, tmp_path, compiled=bool(regularizer))


def test_weights_are_in_the_order_of_tensorflow_addons():
    layer = PeepholeLSTM(5)
    layer.build((None, None, 4))
    assert [weight.shape for weight in layer.weights] == [(4, 20), (5, 20), (20,), (5,), (5,), (5,)]
    assert [weight.name for weight in layer.weights][3:] == [
        f"{g}_gate_peephole" for g in ("input", "forget", "output")
    ]
    np.testing.assert_array_equal(layer.get_weights()[2], np.repeat([0, 1, 0, 0], 5))
    coupled = PeepholeLSTM(5, coupled_gates=True, learn_initial_state=True)
    coupled.build((None, None, 4))
    assert [weight.shape for weight in coupled.weights] == [(4, 15), (5, 15), (15,), *[(5,)] * 4]


def assert_close(found, expected, tolerance):
    """Compares with a tolerance relative to the largest value."""
    for value, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=0, atol=tolerance * np.abs(other).max())


@pytest.mark.parametrize(
    ("arguments", "mask", "dtype", "tolerance"),
    [
        ({}, None, "float64", 1e-12),
        ({}, HOLES, "float32", 1e-6),
        ({"coupled_gates": True, "go_backwards": True}, HOLES, "float64", 1e-12),
        ({"learn_initial_state": True, "use_bias": False, "zero_output_for_mask": True}, HOLES, "float64", 1e-12),
    ],
)
def test_matches_the_cell_in_the_keras_loop(arguments, mask, dtype, tolerance):
    options = {"return_sequences": True, "return_state": True, "dtype": dtype}
    layer = randomized(PeepholeLSTM(5, **options, **arguments))
    loop = {name: value for name, value in arguments.items() if name in ("go_backwards", "zero_output_for_mask")}
    cell = {name: value for name, value in arguments.items() if name not in loop}
    by_keras = keras.layers.RNN(PeepholeLSTMCell(5, dtype=dtype, **cell), **options, **loop)
    by_keras.build(INPUTS.shape)
    by_keras.set_weights(layer.get_weights())
    found = with_gradient(layer, INPUTS, mask=mask)
    assert_close(found, with_gradient(by_keras, INPUTS, mask=mask), tolerance)


def test_padding_has_no_effect_when_unrolled():
    layer = randomized(PeepholeLSTM(5, return_sequences=True, dtype="float64"), INPUTS[:, :3])
    unrolled = PeepholeLSTM.from_config({**layer.get_config(), "unroll": True})
    unrolled.build((3, 3, 4))
    unrolled.set_weights(layer.get_weights())
    mask = HOLES[:, :3]
    padded = np.where(mask[..., None], INPUTS[:, :3], np.nan)
    assert_close(*(with_gradient(each, padded, mask=mask) for each in (layer, unrolled)), 1e-12)


@pytest.mark.parametrize("arguments", [{"dropout": 0.5}, {"recurrent_dropout": 0.5}])
def test_dropout_matches_the_cell(arguments):
    layer = randomized(PeepholeLSTM(5, seed=7, dtype="float64", **arguments))
    by_keras = keras.layers.RNN(PeepholeLSTMCell(5, seed=7, dtype="float64", **arguments), dtype="float64")
    by_keras.build(INPUTS.shape)
    by_keras.set_weights(layer.get_weights())
    first = layer(INPUTS, training=True)
    np.testing.assert_allclose(first, by_keras(INPUTS, training=True), atol=1e-12)
    assert np.abs(first - layer(INPUTS, training=True)).max() > 1e-3  # each batch draws a different mask
    np.testing.assert_allclose(layer(INPUTS), by_keras(INPUTS), atol=1e-12)


def test_with_zero_peepholes_it_matches_the_keras_lstm():
    layer = randomized(PeepholeLSTM(5, return_sequences=True))
    layer.set_weights([*layer.get_weights()[:3], *np.zeros((3, 5))])
    lstm = keras.layers.LSTM(5, return_sequences=True)
    lstm.build(INPUTS.shape)
    lstm.set_weights(layer.get_weights()[:3])
    np.testing.assert_allclose(layer(INPUTS), lstm(INPUTS), atol=1e-6)


def test_initial_states_may_be_given_learned_or_kept():
    layer = randomized(PeepholeLSTM(5, return_state=True, learn_initial_state=True))
    h, c = (np.broadcast_to(value, (3, 5)) for value in layer.get_weights()[-2:])
    for found, expected in zip(layer(INPUTS), layer(INPUTS, initial_state=[h, c]), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    slopes = with_gradient(layer, INPUTS)[-2:]
    assert all(np.abs(slope).max() > 0 for slope in slopes)
    stateful = PeepholeLSTM(5, stateful=True)
    stateful.build(INPUTS.shape)
    whole = PeepholeLSTM(5)
    whole.build(INPUTS.shape)
    whole.set_weights(stateful.get_weights()[:6])
    stateful(INPUTS[:, :3])
    np.testing.assert_allclose(stateful(INPUTS[:, 3:]), whole(INPUTS), atol=1e-6)
    stateful.reset_state()
    np.testing.assert_allclose(stateful(INPUTS), whole(INPUTS), atol=1e-6)


def test_works_in_keras_wrappers(tmp_path):
    sequence = keras.Input((None, 4))
    x = keras.layers.Masking()(sequence)
    x = keras.layers.Bidirectional(PeepholeLSTM(5, return_sequences=True, coupled_gates=True))(x)
    x = keras.layers.RNN([PeepholeLSTMCell(4, dropout=0.1), PeepholeLSTMCell(3)], return_sequences=True)(x)
    model = keras.Model(sequence, keras.layers.RNN(PeepholeLSTMCell(2))(x))
    inputs = INPUTS.astype("float32")
    padded = np.pad(inputs, [[0, 0], [0, 3], [0, 0]])
    np.testing.assert_allclose(model(padded), model(inputs), atol=1e-6)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(inputs), model(inputs))
    bidirectional = model.layers[2]
    there, back = bidirectional.forward_layer(inputs), bidirectional.backward_layer(inputs)
    expected = np.concatenate([there, np.flip(back, axis=1)], axis=-1)
    np.testing.assert_allclose(bidirectional(inputs), expected, atol=1e-6)


def test_exports_without_xla_for_any_batch_size_and_length(tmp_path):
    sequence, mask = keras.Input((None, 4), name="sequence"), keras.Input((None,), dtype="bool", name="mask")
    model = keras.Model([sequence, mask], PeepholeLSTM(5, return_sequences=True)(sequence, mask=mask))
    model.export(tmp_path / "model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "model")
    for batch, steps in ((3, 7), (1, 2), (2, 4)):
        inputs = INPUTS[:batch, :steps].astype("float32")
        result = loaded.serve([inputs, HOLES[:batch, :steps]])
        np.testing.assert_allclose(result, model([inputs, HOLES[:batch, :steps]]), atol=1e-6)
    functions = loaded.signatures["serving_default"].graph.as_graph_def().library.function
    assert len(functions) > 0
    assert not any(function.attr["_XlaMustCompile"].b for function in functions)


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize(("jit", "lengths"), [(False, (3, 7)), pytest.param(True, (7,), marks=pytest.mark.slow)])
def test_fits_batches_of_several_lengths(jit, lengths):
    model = keras.Sequential([keras.layers.Masking(), PeepholeLSTM(5, learn_initial_state=True)])
    model.compile(keras.optimizers.Adam(0.05, clipnorm=1.0), "mse", jit_compile=jit)
    generator = np.random.default_rng(3)
    target = generator.normal(size=(3, 5))
    losses = [
        model.train_on_batch(np.pad(INPUTS[:, :steps], [[0, 0], [0, steps % 3], [0, 0]]), target)
        for _ in range(5)
        for steps in lengths
    ]
    assert losses[-1] < losses[0]


def test_regularizers_and_constraints_apply_to_their_weights():
    layer = PeepholeLSTM(
        2,
        kernel_initializer="ones",
        recurrent_initializer="zeros",
        peephole_initializer="ones",
        peephole_regularizer=keras.regularizers.L1(1.0),
        kernel_regularizer=keras.regularizers.L1(10.0),
        recurrent_constraint="non_neg",
        activity_regularizer=keras.regularizers.L1(0.0),
    )
    layer.build((None, None, 3))
    np.testing.assert_allclose(sum(layer.losses), 3 * 2 + 10 * 3 * 8)
    assert layer.cell.recurrent_kernel.constraint is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": 0}, "`units` must be an integer of at least 1. Received: 0"),
        ({"units": 2.5}, "`units` must be an integer of at least 1. Received: 2.5"),
        ({"units": 2, "dropout": 1.0}, "`dropout` must be a number of at least 0 and below 1. Received: 1.0"),
        (
            {"units": 2, "recurrent_dropout": -0.1},
            "`recurrent_dropout` must be a number of at least 0 and below 1. Received: -0.1",
        ),
        (
            {"units": 2, "stateful": True, "learn_initial_state": True},
            "`learn_initial_state` and `stateful` cannot be combined",
        ),
        ({"units": 2, "unit": 3}, "unit"),
    ],
)
def test_invalid_arguments_raise_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        PeepholeLSTM(**arguments)


def test_inputs_of_the_wrong_shape_raise_an_error():
    layer = PeepholeLSTM(2)
    layer.build((None, None, 3))
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 3"):
        layer(np.zeros((2, 5, 4)))
    with pytest.raises(ValueError, match="expected ndim=3"):
        layer(np.zeros((2, 3)))


@pytest.mark.parametrize(
    "make",
    [
        lambda **shape: PeepholeLSTM(4, **shape),
        lambda **shape: layers.ESN(12, **shape),
        lambda **shape: layers.DeepESN([layers.ESNCell(12)], **shape),
        lambda **shape: keras.layers.RNN(PeepholeLSTMCell(4), **shape),
    ],
)
def test_the_input_shape_builds_a_sequential_model_as_in_keras(make):
    with pytest.warns(UserWarning, match="input_shape"):
        model = keras.Sequential([make(input_shape=(5, 3)), keras.layers.Dense(1)])
    assert model.built and model.output_shape == (None, 1)
    assert len(model.weights) == len(make().cell.get_config() and model.layers[0].weights) + 2
    model.set_weights(model.get_weights())
