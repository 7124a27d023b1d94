"""scan, compared to a Python loop: eager, in graphs and under XLA, with gradients."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.scan import scan

X = np.random.default_rng(0).normal(size=(6, 2, 3))


def step(states, slices):
    total, count = states
    return [0.5 * total + tf.sin(slices[0]) * slices[1], count + 1]


def run(x, keep=True):
    start = [tf.zeros(x.shape[1:], x.dtype), tf.constant(0)]
    return scan(step, start, [x, tf.ones((tf.shape(x)[0], 1, 1), x.dtype) * 2], keep=keep)


def in_python():
    total, history = np.zeros((2, 3)), []
    for x in X:
        total = 0.5 * total + 2 * np.sin(x)
        history.append(total)
    return np.stack(history)


@pytest.mark.parametrize("jit", [None, False, True])
def test_matches_a_loop(jit):
    function = run if jit is None else tf.function(run, jit_compile=jit, autograph=False)
    (total, count), history = function(tf.constant(X))
    np.testing.assert_allclose(history, in_python(), atol=1e-12)
    np.testing.assert_array_equal(total, history[-1])
    assert int(count) == 6


@pytest.mark.parametrize(("jit", "keep"), [(None, True), (None, False), (False, True), (True, False)])
def test_gradients(jit, keep):
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            (total, _), history = run(x, keep)
            assert keep or history is None
            value = tf.reduce_sum(total)
        return tape.gradient(value, x)

    function = gradient if jit is None else tf.function(gradient, jit_compile=jit, autograph=False)
    expected = 2 * np.cos(X) * 0.5 ** np.arange(6)[::-1, None, None]
    np.testing.assert_allclose(function(tf.constant(X)), expected, atol=1e-12)


def test_any_number_of_steps_in_one_graph():
    @tf.function(input_signature=[tf.TensorSpec([], tf.int32), tf.TensorSpec([None])])
    def doubled(length, start):
        return scan(lambda states, _: [2 * states[0]], [start], length=length)

    for length in (0, 1, 4):
        (last,), history = doubled(length, [1.0, 3.0])
        np.testing.assert_array_equal(last, 2.0**length * np.array([1, 3]))
        np.testing.assert_array_equal(history, np.outer(2.0 ** np.arange(1, length + 1), [1, 3]).reshape(length, 2))


def test_an_unknown_length():
    function = tf.function(run, input_signature=[tf.TensorSpec([None, 2, 3], tf.float64)])
    np.testing.assert_allclose(function(X)[1], in_python(), atol=1e-12)
    assert function.get_concrete_function(tf.TensorSpec([None, 2, 3], tf.float64)).structured_outputs[1].shape[1:] == (
        2,
        3,
    )


def test_no_steps_of_states_of_unknown_size():
    @tf.function(input_signature=[tf.TensorSpec([None])])
    def none(start):
        return scan(lambda states, _: states, [start], length=0)

    (last,), history = none([1.0, 3.0])
    assert (last.numpy().tolist(), history.shape) == ([1, 3], (0, 2))
