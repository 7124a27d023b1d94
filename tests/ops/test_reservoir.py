"""reservoir_states, compared to NumPy: links and dense kernels, masks, XLA, gradients."""

import functools

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from keras_dl.ops.reservoir import recurrent_product, reservoir_states
from keras_dl.ops.reservoir_weights import draw_recurrent_kernel, links


def textbook(drive, state, kernel, leak_rate, mask=None):
    states = []
    for t in range(drive.shape[1]):
        new = (1 - leak_rate) * state + leak_rate * np.tanh(drive[:, t] + state @ kernel)
        state = new if mask is None else np.where(mask[:, t, None], new, state)
        states.append(state)
    return np.stack(states, 1), state


def case(batch=3, time=5, units=8, seed=0, dtype="float64"):
    generator = np.random.default_rng(seed)
    kernel = draw_recurrent_kernel(units, min(3, units), seed=seed)
    drive, state = generator.normal(size=(batch, time, units)), generator.normal(size=(batch, units))
    sources, values = links(kernel, 3)
    return drive.astype(dtype), state.astype(dtype), kernel.toarray().astype(dtype), (sources, values.astype(dtype))


@pytest.mark.parametrize(
    ("dtype", "tolerance", "leak_rate"), [("float32", 1e-6, 0.3), ("float64", 1e-12, np.linspace(0.1, 1, 8))]
)
def test_matches_the_equation(dtype, tolerance, leak_rate):
    drive, state, dense, listed = case(dtype=dtype)
    leak_rate = np.asarray(leak_rate, dtype)
    mask = np.array([[1, 1, 1, 1, 0], [0, 0, 1, 1, 1], [1, 0, 0, 1, 1]], bool)
    # Each combination is compiled; the two dtypes share them.
    for kernel, some_mask in ((dense, None), (listed, mask)) if dtype == "float32" else ((listed, None), (dense, mask)):
        expected = textbook(drive, state, dense, leak_rate, some_mask)
        for found, value in zip(
            reservoir_states(drive, state, kernel, leak_rate, mask=some_mask), expected, strict=True
        ):
            np.testing.assert_allclose(found, value, atol=tolerance)
    none, last = reservoir_states(drive, state, listed, leak_rate, mask=mask, keep=False)
    assert none is None
    np.testing.assert_allclose(last, expected[1], atol=tolerance)


@functools.cache
def in_graph(gather):
    """Returns the function in a graph for all shapes, without XLA, which would compile each."""
    kernel = tf.TensorSpec([None, None], tf.float64)
    if gather:
        kernel = tf.TensorSpec([3, None], tf.int32), tf.TensorSpec([3, None], tf.float64)
    signature = [tf.TensorSpec([None] * 3, tf.float64), tf.TensorSpec([None] * 2, tf.float64), kernel]

    @tf.function(input_signature=[*signature, tf.TensorSpec([None, None], tf.bool)], autograph=False)
    def states(drive, state, kernel, mask):
        return reservoir_states(drive, state, kernel, np.float64(0.5), mask=mask)

    return states


@hypothesis.given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 6), st.integers(0, 99), st.booleans())
@hypothesis.settings(max_examples=15, deadline=None, derandomize=True)
def test_any_shape_and_mask(batch, time, units, seed, gather):
    drive, state, dense, listed = case(batch, time, units, seed)
    mask = np.random.default_rng(seed).random((batch, time)) < 0.6
    results = in_graph(gather)(drive, state, listed if gather else dense, mask)
    for found, expected in zip(results, textbook(drive, state, dense, 0.5, mask), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize(("jit", "gather"), [(None, False), (None, True), (False, True), (True, False)])
def test_gradients_match_finite_differences(gather, jit):
    drive, state, dense, listed = case()
    kernel = listed if gather else dense
    mask = np.array([[1, 1, 1, 1, 0], [0, 0, 1, 1, 1], [1, 0, 0, 1, 1]], bool)
    weights = np.random.default_rng(5).normal(size=drive.shape)

    def gradients(drive, state):
        with tf.GradientTape() as tape:
            tape.watch([drive, state])
            value = tf.reduce_sum(weights * reservoir_states(drive, state, kernel, np.float64(0.5), mask=mask)[0])
        return tape.gradient(value, [drive, state])

    function = gradients if jit is None else tf.function(gradients, jit_compile=jit, autograph=False)
    of_drive, of_state = function(tf.constant(drive), tf.constant(state))
    direction, small = np.random.default_rng(6).normal(size=drive.shape), 1e-6

    def value(drive, state):
        return (weights * textbook(drive, state, dense, 0.5, mask)[0]).sum()

    for slope, moved in (
        ((of_drive * direction).numpy().sum(), lambda d: (drive + d * direction, state)),
        ((of_state * direction[:, 0]).numpy().sum(), lambda d: (drive, state + d * direction[:, 0])),
    ):
        assert slope == pytest.approx((value(*moved(small)) - value(*moved(-small))) / (2 * small), rel=1e-6)


def test_links_and_dense_products_agree():
    _, state, dense, listed = case()
    np.testing.assert_allclose(recurrent_product(state, listed), state @ dense, atol=1e-14)
    np.testing.assert_allclose(recurrent_product(state, dense), state @ dense, atol=1e-14)


def test_a_wrong_number_of_features_raises():
    drive = np.zeros((1, 3, 30)), np.zeros((1, 30)), np.zeros(30)
    with pytest.raises(ValueError, match="Expected 1 features. Received: inputs of shape .1, 3, 30."):
        reservoir_states(drive, np.zeros((1, 30)), np.eye(30), 0.5)
