"""Reference values from the tests of TensorFlow Addons (`seq2seq/tests/attention_wrapper_test.py`)."""

import base64

import keras
import numpy as np
import pytest

from keras_dl.layers import AdditiveAttention, AttentionCell, GeneralAttention, MonotonicAttention

# The weights (19, 6) of the attention layer, drawn by `glorot_uniform` of Keras 2 with seed 1337.
ATTENTION_LAYER = """
6JyOvs1MzT7veYq+6qmevk5Uzb5ghi+8MAm+vQL5177BAds+V4mFPuKYLj4atKi+Yr+Ovsr7rL5+iVy+YsErviw1wL2QoDa9SK1avrXSzD4y1W6+pHr5PYvJ
wD4CUz4+n4fIPrQ4z77p+Lo+SPxPvm7/Gj6GA3U+bEFSvjr+8L5yHho+trAaPqMWgj5QEuy8+KcmPcBWTLyCUHg+Gnt0Pr134D5nW4I+Nq5vPmRY1T0DMq0+
GPVfPTX5tD4bzd++W7rIPi49tb6DFuA+Ge3PPmTIz73wrTi+trdivi6Y374KoJe+EiUPvkabdD7CogA+SO54PUKrpb448Ne+41m9Psz45j3Th9U+fMqbvrnW
nz4oUIS+q2vaPkS6yj00spW+pLrfPdpYHD7aaM6+WS3JPnX6zr4IdD29mjkxvtgOqr42Vk8+0uNdPsz59b4AyfA6XGBIvgCBOrw/9Mk+Sso5vrBmur3axVK+
quJJPqsdfb4ibe6+7mqWvinRpD6jf98+7HW5vpue+D7ADh69sO3evHQWzD12r6C+psUJvocAqT4CxQm+G1TvPgu4xj6QCpG80nxsvlYMUj73WeC+dHSjvdzp
pz3AUeS8
"""
LENGTHS = np.array([3, 2, 3, 1, 1])
PLAIN, NORMAL = {"units": 3, "use_bias": False}, {"units": 3, "normalize": True}
LUONG = [-0.06124732, 2.7333333, 0.5202158, 1.0964939, -0.031806, 0.125]
# Means of the output, of its largest class, of h, c and attention of the last state, and of the alignments there.
CASES = {
    "no layer": (AdditiveAttention, PLAIN, [0.078317143, 4.2, 0.89382392, 1.722382, 0.026356646, 0.125]),
    "bahdanau": (AdditiveAttention, PLAIN, [-0.003204414, 3.2, 0.40868404, 0.89017969, 0.041453815, 0.125]),
    "normalized": (AdditiveAttention, NORMAL, [-0.008089137, 2.8, 0.49166861, 1.01068615, 0.042427111, 0.125]),
    "luong": (GeneralAttention, {}, LUONG),
    "scaled luong": (GeneralAttention, {"use_scale": True}, LUONG),
    "monotonic": (
        MonotonicAttention,
        {"units": 3, "mode": "parallel"},
        [-0.009921653, 3.1333333, 0.44612807, 0.95786464, 0.038682378, 0.09778417],
    ),
    "normalized monotonic": (
        MonotonicAttention,
        {"mode": "parallel", **NORMAL},
        [0.00714068, 3.2666666, 0.470124, 1.0249618, 0.068432882, 0.0615656],
    ),
    "monotonic luong": (
        MonotonicAttention,
        {"score": "general", "mode": "parallel"},
        # Addons expects 0.00366, 0.0591 and 0.0511, because its parallel formula divides by values that underflow.
        [0.0045643801, 3.0666666, 0.54318606, 1.1259284, 0.061826878, 0.060719465],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_matches_the_reference_values(name):
    attention, arguments, expected = CASES[name]
    state = np.random.RandomState(87654321)  # drawn in the order of the tests of Addons
    state.randn(64, 10, 256), state.randint(1, 10, 64), state.randn(64, 12, 128), state.randint(0, 12, 64)
    x, memory = (state.randn(*shape).astype("float32") for shape in ((5, 4, 7), (5, 8, 10)))
    inner = keras.layers.LSTMCell(9, kernel_initializer="ones", recurrent_initializer="ones")
    attention = attention(**arguments, kernel_initializer="ones")
    cell = AttentionCell(inner, attention, attention_units=None if name == "no layer" else 6)
    cell.build((None, 7), (None, None, 10))
    if cell.attention_units:
        cell.kernel.assign(np.frombuffer(base64.b64decode(ATTENTION_LAYER), "<f4").reshape(19, 6))
    prepared = cell.prepare(memory, np.arange(8) < LENGTHS[:, None])
    states, outputs = cell.start(prepared), []
    for t in range(3):
        output, states = cell.step(x[:, t], states, prepared)
        outputs.append(output)
    outputs = np.stack(outputs, axis=1)
    found = [outputs.mean(), outputs.argmax(-1).mean(), *(np.mean(state) for state in states)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
