"""Tests of ESN: the general checks, the equation in NumPy, given weights, reservoirpy and other backends."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import sparse

from keras_dl.layers import ESN, DeepESN, ESNCell

from .check_layer import check_layer

X = np.random.default_rng(0).normal(size=(3, 6, 2))
MASK = np.array([[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1], [1, 0, 0, 1, 0, 1]], bool)
# Units and links: few links are gathered, many are a matrix.
SIZES = [(40, 2), (12, 5)]


def in_numpy(layer, x, mask=None, state=None):
    """Computes all outputs of the equation with Keras masks: a masked step repeats the last output, zeros at first."""
    *recurrent, kernel, bias = (np.array(weight, "float64") for weight in layer.get_weights())
    matrix = recurrent[0]
    if len(recurrent) == 2:
        matrix = np.zeros((layer.cell.units,) * 2)
        np.add.at(matrix, (recurrent[0].astype(int), np.arange(layer.cell.units)), recurrent[1])
    state = np.zeros((len(x), layer.cell.units)) if state is None else state
    output, outputs, a = np.zeros_like(state), [], np.asarray(layer.cell.leak_rate)
    for t in range(x.shape[1]):
        new = (1 - a) * state + a * np.tanh(x[:, t] @ kernel + state @ matrix + bias)
        here = np.ones((len(x), 1), bool) if mask is None else mask[:, t, None]
        state, output = np.where(here, new, state), np.where(here, new, output)
        outputs.append(output)
    return np.stack(outputs, 1), state


@pytest.mark.parametrize("size", SIZES)
def test_behaves_as_a_sequence_layer(size, tmp_path):
    arguments = {"units": size[0], "fan_in": size[1], "bias_scaling": 0.5, "leak_rate": 0.7}
    arguments |= {"return_sequences": True, "seed": 1}
    check_layer(ESN, arguments, X, tmp_path, compiled=size == SIZES[0])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-12)])
def test_matches_the_equation(size, dtype, tolerance):
    leak_rate = np.linspace(0.2, 1, size[0])
    options = {"leak_rate": leak_rate, "bias_scaling": 0.5, "seed": 1, "dtype": dtype, "return_state": True}
    layer = ESN(*size, return_sequences=True, **options)
    start = np.random.default_rng(1).normal(size=(3, size[0]))
    for mask, initial in ((None, None), (MASK, start)):
        outputs, state = layer(X, initial_state=None if initial is None else [initial], mask=mask)
        assert outputs.dtype == state.dtype == dtype
        expected = in_numpy(layer, X, mask, initial)
        np.testing.assert_allclose(outputs, expected[0], atol=tolerance)
        np.testing.assert_allclose(state, expected[1], atol=tolerance)
    last = ESN(*size, **options)
    np.testing.assert_allclose(last(X, mask=MASK)[0], in_numpy(layer, X, MASK)[0][:, -1], atol=tolerance)


def test_backwards_and_bidirectional():
    forward, backward = ESN(12, 5, seed=1, return_sequences=True), ESN(12, 5, seed=1, go_backwards=True)
    np.testing.assert_allclose(backward(X), in_numpy(backward, X[:, ::-1])[0][:, -1], atol=1e-6)
    both = keras.layers.Bidirectional(forward)
    outputs = both(X, mask=tf.constant(MASK))
    forward = both.forward_layer
    expected = in_numpy(both.backward_layer, X[:, ::-1], MASK[:, ::-1])[0][:, ::-1]
    expected = np.concatenate([in_numpy(forward, X, MASK)[0], expected], -1)
    np.testing.assert_allclose(outputs, expected * MASK[..., None], atol=1e-6)  # the wrapper sets zero_output_for_mask


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize(("size", "jit"), [(SIZES[0], None), (SIZES[1], None), (SIZES[0], False), (SIZES[1], True)])
def test_gradients_pass_through_and_are_zero_at_padding(size, jit):
    below, layer = keras.layers.Dense(2, dtype="float64"), ESN(*size, return_sequences=True, seed=1, dtype="float64")
    below.build(X.shape)
    layer.build(X.shape)
    padded = np.where(MASK[..., None], X, np.nan)

    def slopes(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = tf.reduce_sum(tf.square(layer(below(x), mask=tf.constant(MASK))))
        return value, *tape.gradient(value, [x, below.kernel.value])

    value, of_x, of_kernel = (slopes if jit is None else tf.function(slopes, jit_compile=jit))(tf.constant(X))
    small = 1e-6
    for slope, moved in ((of_x[1, 3, 0], "x"), (of_kernel[0, 1], "kernel")):
        values = []
        for side in (1, -1):
            x, kernel = X.copy(), below.kernel.numpy()
            if moved == "x":
                x[1, 3, 0] += side * small
            else:
                kernel[0, 1] += side * small
            values.append(np.square(in_numpy(layer, x @ kernel, MASK)[0]).sum())
        assert float(slope) == pytest.approx((values[0] - values[1]) / (2 * small), rel=1e-6)
    assert np.abs(of_x.numpy()[~MASK]).max() == 0
    if jit is None:
        found = slopes(tf.constant(padded))
        np.testing.assert_allclose(found[0], value)
        assert np.isfinite(found[1]).all()


def test_gathered_links_and_a_matrix_give_equal_states():
    listed = ESN(40, 2, seed=1)
    listed.build(X.shape)
    sources, values, kernel, bias = listed.get_weights()
    matrix = np.zeros((40, 40))
    matrix[sources, np.arange(40)] = values
    dense = ESN(40, None, topology="given")
    dense.build(X.shape)
    dense.set_weights([matrix, kernel, bias])
    np.testing.assert_allclose(dense(X), listed(X), atol=1e-6)


def test_the_keras_mask_is_used():
    model = keras.Sequential([keras.layers.Masking(9.0), ESN(12, 5, seed=1)])
    padded = np.concatenate([X, np.full((3, 2, 2), 9.0)], 1)
    np.testing.assert_allclose(model(padded), model.layers[1](X), atol=1e-6)


@pytest.mark.parametrize("as_sparse", [False, True])
@pytest.mark.parametrize("units", [3, 40])
def test_from_weights(as_sparse, units, tmp_path):
    generator = np.random.default_rng(3)
    matrix = np.where(generator.random((units, units)) < 2 / units, generator.normal(size=(units, units)) / 2, 0)
    kernel, bias = generator.normal(size=(2, units)), generator.normal(size=units)
    given = sparse.coo_matrix(matrix) if as_sparse else matrix
    layer = ESN.from_weights(given, kernel, bias, leak_rate=0.5, return_sequences=True)
    state, outputs = np.zeros((3, units)), []
    for t in range(6):
        state = 0.5 * state + 0.5 * np.tanh(X[:, t] @ kernel + state @ matrix + bias)
        outputs.append(state)
    np.testing.assert_allclose(layer(X), np.stack(outputs, 1), atol=1e-6)
    model = keras.Sequential([keras.Input((None, 2)), layer])
    model.save(tmp_path / "given.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "given.keras")(X), model(X))


def test_from_weights_matches_tensorflow_addons():
    layer = ESN.from_weights(np.full((3, 3), 0.5), np.full((4, 3), 0.5), np.full(3, 0.5), activation=None)
    inputs = np.repeat([[[1.0]], [[2.0]], [[3.0]]], 4, axis=2)
    np.testing.assert_allclose(layer(inputs), np.repeat([[2.5], [4.5], [6.5]], 3, axis=1))


@pytest.mark.parametrize("shapes", [((3, 2), (4, 3), (3,)), ((3, 3), (4, 2), (3,)), ((3, 3), (4, 3), (2,))])
def test_from_weights_with_mismatched_shapes_raises_an_error(shapes):
    with pytest.raises(ValueError, match="Expected a recurrent kernel .* Received: shapes"):
        ESN.from_weights(*map(np.ones, shapes))


def test_arguments_are_passed_to_the_cell():
    with pytest.raises(ValueError, match="`fan_in` must be"):
        ESN(5)
    config = ESN(20, density=0.2, leak_rate=0.5, seed=1, return_sequences=True, dtype="float64").get_config()
    assert config["fan_in"] == 4
    assert ESN.from_config(config).cell.dtype == "float64"
    assert isinstance(ESN(20).cell, ESNCell)


def test_exports_without_xla_for_any_batch_size_and_length(tmp_path):
    model = keras.Sequential([keras.Input((None, 2)), ESN(40, 2, seed=1, return_sequences=True)])
    model.export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved")
    for x in (X, X[:1, :3]):
        np.testing.assert_allclose(loaded.serve(x.astype("float32")), model(x), atol=1e-6)
    from tensorflow.core.protobuf import saved_model_pb2

    text = saved_model_pb2.SavedModel.FromString((tmp_path / "saved" / "saved_model.pb").read_bytes())
    for function in text.meta_graphs[0].graph_def.library.function:
        assert not function.attr["_XlaMustCompile"].b
        assert not any(node.attr["_XlaMustCompile"].b for node in function.node_def)


def test_states_match_reservoirpy():
    nodes = pytest.importorskip("reservoirpy.nodes")
    layer = ESN(40, 2, leak_rate=0.3, bias_scaling=0.2, seed=1, return_sequences=True, dtype="float64")
    outputs = layer(X)
    sources, values, kernel, bias = layer.get_weights()
    matrix = np.zeros((40, 40))
    matrix[sources, np.arange(40)] = values
    for x, expected in zip(X, outputs, strict=True):
        peer = nodes.Reservoir(W=matrix.T, Win=kernel.T, bias=bias, lr=0.3, input_dim=2)
        np.testing.assert_allclose(peer.run(x), expected, atol=1e-12)


IN_TORCH = """
import sys
import keras, numpy as np
from keras_dl.layers import ESN
from keras_dl.models import EchoStateNetwork
saved = dict(np.load(sys.argv[1]))
assert keras.backend.backend() == "torch"
for units, fan_in in ((40, 2), (12, 5)):
    layer = ESN(units, fan_in, leak_rate=0.5, bias_scaling=0.3, seed=1, return_sequences=True)
    states = keras.ops.convert_to_numpy(layer(saved["x"], mask=saved["mask"]))
    for number, weight in enumerate(layer.get_weights()):
        np.testing.assert_array_equal(weight, saved[f"{units}_{number}"])
    np.testing.assert_allclose(states, saved[f"{units}_states"], atol=1e-6)
model = EchoStateNetwork(ESN(40, 2, seed=1), 1, alpha=1e-4, washout=20)
model.fit(saved["wave"], verbose=0)
forecast = keras.ops.convert_to_numpy(model.forecast(saved["wave"], 10))
np.testing.assert_allclose(forecast, saved["forecast"], atol=1e-3)
"""


def test_weights_states_and_forecasts_match_on_torch(tmp_path):
    pytest.importorskip("torch")
    from keras_dl.models import EchoStateNetwork

    wave = np.sin(0.2 * np.arange(200)).reshape(1, -1, 1).astype("float32")
    saved = {"x": X.astype("float32"), "mask": MASK, "wave": wave}
    for units, fan_in in SIZES:
        layer = ESN(units, fan_in, leak_rate=0.5, bias_scaling=0.3, seed=1, return_sequences=True)
        saved[f"{units}_states"] = layer(saved["x"], mask=MASK)
        saved |= {f"{units}_{number}": weight for number, weight in enumerate(layer.get_weights())}
    model = EchoStateNetwork(ESN(40, 2, seed=1), 1, alpha=1e-4, washout=20)
    model.fit(wave, verbose=0)
    np.savez(tmp_path / "saved.npz", forecast=model.forecast(wave, 10), **saved)
    command = [sys.executable, "-c", IN_TORCH, str(tmp_path / "saved.npz")]
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def check_derivatives(layer, x):
    """Compares Jacobian, second derivative and forward mode with finite differences."""
    step, direction = 1e-5, np.random.default_rng(3).normal(size=x.shape)
    layer(x)

    def squares(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            total = tf.reduce_sum(layer(x) ** 2)
        return tf.reduce_sum(tape.gradient(total, x) ** 2)

    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y, of_gradient = layer(x), squares(x)
    slope = (layer(x + step * direction) - layer(x - step * direction)) / (2 * step)
    jacobian = tf.reshape(tape.jacobian(y, x), [-1, tf.size(x)])
    np.testing.assert_allclose(jacobian @ tf.reshape(direction, [-1, 1]), tf.reshape(slope, [-1, 1]), atol=1e-7)
    with tf.autodiff.ForwardAccumulator(x, tf.constant(direction)) as accumulator:
        y = layer(x)
    np.testing.assert_allclose(accumulator.jvp(y), slope, atol=1e-7)
    second = (squares(x + step * direction) - squares(x - step * direction)) / (2 * step)
    np.testing.assert_allclose(tf.reduce_sum(tape.gradient(of_gradient, x) * direction), second, rtol=1e-4)


@pytest.mark.parametrize(
    "kind", ["masked", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("dense", "deep", "softmax"))]
)
def test_all_derivatives_in_eager_mode(kind, graphs):
    # TensorFlow does not vectorize the Jacobian of a masked loop in a graph that is not optimized.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
    options = {"seed": 1, "dtype": "float64"}
    cells = lambda: [ESNCell(5, None, **options), ESNCell(30, 3, leak_rate=0.3, **options)]  # noqa: E731
    layer = {
        "dense": lambda: ESN(6, None, leak_rate=0.5, **options),
        "masked": lambda: ESN(40, 3, return_sequences=True, **options),
        "deep": lambda: DeepESN(cells()),
        "softmax": lambda: ESN(40, 3, activation="softmax", **options),
    }[kind]()
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 4, 3)))
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0]], bool)
    check_derivatives((lambda x: layer(x, mask=mask)) if kind == "masked" else layer, x)


@pytest.mark.parametrize(
    "activation", ["softmax", "log_softmax", lambda x: x / (1 + tf.norm(x, axis=-1, keepdims=True))]
)
@pytest.mark.parametrize("fan_in", [3, None])
def test_an_activation_over_all_units_is_the_same_in_layer_and_cell(activation, fan_in):
    x = np.random.default_rng(0).normal(size=(2, 4, 3))
    options = {"activation": activation, "seed": 1, "dtype": "float64"}
    expected = keras.layers.RNN(ESNCell(40, fan_in, **options), dtype="float64")(x)
    np.testing.assert_allclose(ESN(40, fan_in, **options)(x), expected, rtol=1e-9)
    np.testing.assert_allclose(DeepESN([ESNCell(40, fan_in, **options)])(x), expected, rtol=1e-9)


def test_an_activation_that_changes_the_number_of_units_is_refused():
    for fan_in in (3, None):
        with pytest.raises(ValueError, match="keeps the shape .* Received: glu"):
            ESN(40, fan_in, activation="glu", seed=1)(np.ones((1, 2, 3), "float32"))
