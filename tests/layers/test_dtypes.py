"""Every layer, loss and metric at every dtype: float64 keeps its digits, half precision its sums."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl import layers, losses, metrics
from keras_dl.models import seq2seq

X = np.random.default_rng(0).normal(size=(2, 5, 4))
MEMORY = np.random.default_rng(1).normal(size=(2, 6, 4))
LABELS = np.array([[1, 2, 0, 0, 0], [3, 1, 2, 0, 0]])
IDS = np.array([[2, 4, 5], [2, 6, 0]])


def attend(layer, x):
    return layer(x, MEMORY)


def decode(layer, x):
    return layer(IDS, x, np.ones(x.shape[:2], bool), tf.reduce_mean(x, axis=1))


def attention_rnn(dtype):
    cell = layers.PeepholeLSTMCell(4, dtype=dtype)
    cell = layers.AttentionCell(cell, layers.DotAttention(dtype=dtype), dtype=dtype)
    return layers.AttentionRNN(cell, dtype=dtype)


def rnn(cell):
    return lambda dtype: keras.layers.RNN(cell(dtype=dtype), dtype=dtype)


# Each layer as a function of its dtype, and how it is called.
MAKERS = {
    "AdditiveAttention": (lambda dtype: layers.AdditiveAttention(4, dtype=dtype), attend),
    "AttentionPooling": (lambda dtype: layers.AttentionPooling(3, dtype=dtype), None),
    "AttentionRNN": (attention_rnn, attend),
    "CTCOutput": (lambda dtype: layers.CTCOutput(3, dtype=dtype), None),
    "CosineAttention": (lambda dtype: layers.CosineAttention(dtype=dtype), attend),
    "DeepESN": (lambda dtype: layers.DeepESN([layers.ESNCell(20, 2, seed=1, dtype=dtype)]), None),
    "DotAttention": (lambda dtype: layers.DotAttention(dtype=dtype), attend),
    "ESN": (lambda dtype: layers.ESN(20, 2, seed=1, return_sequences=True, dtype=dtype), None),
    "ESNCell": (rnn(lambda dtype: layers.ESNCell(8, 2, leak_rate=0.3, seed=1, dtype=dtype)), None),
    "GeneralAttention": (lambda dtype: layers.GeneralAttention(dtype=dtype), attend),
    "LocationAttention": (lambda dtype: layers.LocationAttention(6, dtype=dtype), attend),
    "LogMel": (lambda dtype: layers.LogMel(dtype=dtype), lambda layer, x: layer(tf.reshape(x, [1, -1]))),
    "MonotonicAttention": (lambda dtype: layers.MonotonicAttention(units=4, mode="parallel", dtype=dtype), attend),
    "PeepholeLSTM": (lambda dtype: layers.PeepholeLSTM(3, dtype=dtype), None),
    "PeepholeLSTM unrolled": (lambda dtype: layers.PeepholeLSTM(3, unroll=True, dtype=dtype), None),
    "PeepholeLSTMCell": (rnn(lambda dtype: layers.PeepholeLSTMCell(3, dtype=dtype)), None),
    "RecurrentDecoder": (lambda dtype: seq2seq.RecurrentDecoder(7, 4, embedding=3, dtype=dtype), decode),
    "RidgeReadout": (lambda dtype: layers.RidgeReadout(2, dtype=dtype), None),
    "ScaledDotProductAttention": (lambda dtype: layers.ScaledDotProductAttention(2, dtype=dtype), attend),
    "SpecAugment": (lambda dtype: layers.SpecAugment(seed=1, dtype=dtype), None),
    "TransformerDecoder": (lambda dtype: seq2seq.TransformerDecoder(7, 4, depth=1, dtype=dtype), decode),
    "UtteranceNormalization": (lambda dtype: layers.UtteranceNormalization(dtype=dtype), None),
    "UtteranceNormalization of all": (lambda dtype: layers.UtteranceNormalization(False, dtype=dtype), None),
    "UtteranceNormalization running": (lambda dtype: layers.UtteranceNormalization(running=True, dtype=dtype), None),
    "VocalTractPerturbation": (
        lambda dtype: lambda x: layers.VocalTractPerturbation(seed=1, dtype=dtype)(x, training=True),
        None,
    ),
}
COMPUTES_NO_NUMBERS = {"AttentionCell", "DeepESNCell", "SubwordTokenizer", "Tokenizer"}  # the first two: see the layers


def smoothness(function, x):
    """Returns the largest difference of two estimates of the derivative, which amplify rounding by 1e6."""
    direction = np.random.default_rng(2).normal(size=x.shape)
    slopes = []
    for step in (1e-6, 2e-6):
        high, low = (np.asarray(function(tf.constant(x + sign * step * direction)), "float64") for sign in (1, -1))
        slopes.append((high - low) / (2 * step))
    assert np.isfinite(slopes).all()
    return np.abs(slopes[0] - slopes[1]).max()


def test_every_layer_is_tested():
    assert {name.split()[0] for name in MAKERS} | COMPUTES_NO_NUMBERS >= set(layers.__all__)


def made(name, dtype, weights=None):
    """Returns a layer as a function of its input, with small random weights or those of another one."""
    make, call = MAKERS[name]
    layer = make(dtype)

    def run(x):
        return layer(x) if call is None else call(layer, x)

    run(tf.constant(X, "float32"))
    if weights is None and hasattr(layer, "trainable_weights"):
        generator = np.random.default_rng(3)
        for weight in layer.trainable_weights:
            weight.assign(generator.normal(0, 0.5, weight.shape))
    elif weights:
        layer.set_weights(weights)
    return run, layer.get_weights() if hasattr(layer, "get_weights") else []


@pytest.mark.parametrize("name", MAKERS)
def test_float64_is_exact(name):
    run, _ = made(name, "float64")
    assert keras.backend.standardize_dtype(run(tf.constant(X)).dtype) == "float64"
    assert smoothness(run, X) < 1e-4  # numbers of float32 would give about 0.1


@pytest.mark.parametrize("name", sorted(MAKERS.keys() - {"SpecAugment", "VocalTractPerturbation"}))
@pytest.mark.parametrize("dtype", ["float16", "mixed_bfloat16"])
def test_half_precision_is_close_to_float64(name, dtype):
    exact, weights = made(name, "float64")
    half, _ = made(name, dtype, weights)
    found = keras.ops.cast(half(tf.constant(X)), "float64")
    tolerance = 0.02 if dtype == "float16" else 0.1
    np.testing.assert_allclose(found, exact(tf.constant(X)), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", sorted(MAKERS.keys() - {"RecurrentDecoder", "TransformerDecoder"}))
def test_integers_are_converted_to_floats(name):
    run, _ = made(name, "float32")
    whole = np.round(X * 3).astype("int32")
    found, expected = run(tf.constant(whole)), run(tf.constant(whole, "float32"))
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", ["fused", "unrolled", "RNN", "stack"])
def test_a_cell_state_in_half_precision_keeps_counting(dtype, kind):
    """A half-precision sum of ones ends at 256 or 2048; with open gates, each step adds one to the cell state."""
    options = {"dtype": dtype, **{f"{name}_initializer": "zeros" for name in ("kernel", "recurrent", "peephole")}}
    if kind in ("fused", "unrolled"):
        layer = layers.PeepholeLSTM(1, unroll=kind == "unrolled", return_state=True, **options)
        cell = layer.cell
    else:
        cell = layers.PeepholeLSTMCell(1, **options)
        layer = keras.layers.RNN(cell if kind == "RNN" else [cell], return_state=True, dtype=dtype)
    x, start = np.zeros((1, 8, 1), "float32"), 252 if "bfloat16" in dtype else 2044
    layer(x)
    cell.bias.assign([20.0, 20.0, 20.0, 20.0])
    state = [tf.zeros((1, 1)), tf.fill((1, 1), float(start))]
    final = keras.tree.flatten(layer(x, initial_state=[state] if kind == "stack" else state))[-1]
    assert float(keras.ops.cast(final, "float32")[0, 0]) == start + 8


@pytest.mark.parametrize("dtype", ["float16", "mixed_bfloat16"])
def test_a_slow_reservoir_in_half_precision_does_not_stall(dtype):
    x = np.ones((1, 300, 1), "float32")
    cell = {"leak_rate": 0.004, "fan_in": None, "seed": 1, "dtype": dtype}
    exact = layers.ESN(3, leak_rate=0.004, fan_in=None, seed=1, dtype="float64")(x)
    for layer in (
        layers.ESN(3, **cell),
        layers.DeepESN([layers.ESNCell(3, **cell)]),
        keras.layers.RNN(layers.ESNCell(3, **cell), dtype=dtype),
    ):
        np.testing.assert_allclose(keras.ops.cast(layer(x), "float64"), exact, atol=1e-3)


LOSSES = {
    "CTCLoss": lambda dtype: losses.CTCLoss(label_smoothing=0.1, dtype=dtype),
    "FramewiseCrossEntropy": lambda dtype: losses.FramewiseCrossEntropy("ramp", dtype=dtype),
    "SequenceCrossEntropy": lambda dtype: losses.SequenceCrossEntropy(0.1, dtype=dtype),
}
SMOOTH_METRICS = {
    "BitsPerCharacter": lambda dtype: (metrics.BitsPerCharacter(dtype=dtype), LABELS),
    "NRMSE": lambda dtype: (metrics.NRMSE(dtype=dtype), X[::-1]),
}


@pytest.mark.parametrize("name", [*LOSSES, *SMOOTH_METRICS])
@pytest.mark.parametrize("global_policy", [False, True])
def test_losses_and_metrics_in_float64(name, global_policy):
    dtype = None if global_policy else "float64"
    keras.config.set_floatx("float64" if global_policy else "float32")
    try:

        def value(x):
            if name in LOSSES:
                return LOSSES[name](dtype)(LABELS, x)
            metric, y_true = SMOOTH_METRICS[name](dtype)
            metric.update_state(y_true, x)
            return metric.result()

        assert keras.backend.standardize_dtype(value(X).dtype) == "float64"
        assert smoothness(value, X) < 1e-4
    finally:
        keras.config.set_floatx("float32")


@pytest.mark.parametrize("name", metrics.__all__)
def test_metrics_of_half_precision_equal_those_of_float32(name):
    if name == "translation_scores":
        return
    found = []
    for dtype in ("float16", "bfloat16", "float32"):
        arguments = [[" ", "a", "b"]] if name == "WordErrorRate" else []
        metric = getattr(metrics, name)(*arguments, dtype=dtype)
        for _ in range(3):
            metric.update_state(np.full_like(X, 1000.0) + X if name == "NRMSE" else LABELS, X)
        found.append(float(metric.result()))
    assert found[0] == found[1] == found[2]
