import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.decoding.loop import batch_size, log_probabilities, of_length, run


def test_log_probabilities_of_infinite_logits():
    inf, nan = np.inf, np.nan
    logits = np.array(
        [[0.0, 1.0, 2.0], [nan, 0.0, 0.0], [-inf, nan, 3.0], [-inf, -inf, nan], [inf, 0.0, inf]], "float32"
    )
    expected = np.log([[0.09003057, 0.24472847, 0.66524096], [1e-99, 0.5, 0.5], [1e-99, 1e-99, 1.0]])
    found = log_probabilities(logits).numpy()
    assert not np.isnan(found).any() and found.dtype == np.float32
    np.testing.assert_allclose(found[:3], np.where(expected < -100, -inf, expected), atol=1e-6)
    np.testing.assert_array_equal(found[3], -inf)
    np.testing.assert_allclose(np.exp(found[4]), [0.5, 0, 0.5], atol=1e-6)


def test_log_probabilities_are_never_positive():
    generator = np.random.default_rng(0)
    for scale in (1e-3, 1.0, 1e3, 1e30):
        assert log_probabilities(generator.normal(size=[100, 5]) * scale).numpy().max() <= 0


def test_batch_size():
    assert batch_size({"a": None, "b": (tf.zeros([4, 2]),)}, ()) == batch_size((), np.zeros([4])) == 4
    with pytest.raises(ValueError, match="at least one tensor"):
        batch_size((), {"a": None})


def test_a_high_bound_costs_nothing():
    def step(tokens, time, state, memory):
        return tf.one_hot(tokens + 1, 9), state, tf.ones([1, 2])

    def choose(time, log_probability, alignment, carry):
        return tf.argmax(log_probability, axis=1, output_type=tf.int32), tf.constant([0]), carry, time < 2

    for wrapped in (run, tf.function(run, autograph=False)):
        history, steps, _ = wrapped(
            step, choose, (), tf.zeros([1]), (), start=0, end=8, max_length=tf.constant(5000)
        )  # fmt: skip
        assert int(steps) == 3 and history.tokens.numpy().tolist() == [[1], [2], [3]]
        assert len(history.parents) == len(history.alignment) == 3


def test_of_length():
    tensor = tf.reshape(tf.range(6), [2, 3])
    assert of_length(tensor, 2, -1, axis=1).numpy().tolist() == [[0, 1], [3, 4]]
    assert of_length(tensor, tf.constant(3), -1, axis=0).numpy().tolist() == [[0, 1, 2], [3, 4, 5], [-1, -1, -1]]


def test_states_follow_their_hypotheses():
    """Two hypotheses per row swap places in every step; their states move along, the memory stays."""
    seen = []

    def step(tokens, time, state, memory):
        seen.append((tokens.numpy().tolist(), state["name"].numpy().tolist(), memory[0].numpy().tolist()))
        return tf.zeros([len(tokens), 9]), {"name": state["name"] * 10 + tokens}, None

    def choose(time, log_probability, alignment, carry):
        parents = [[0, 0, 1, 1], [1, 0, 3, 2]][min(int(time), 1)]
        return tf.constant([1, 2, 3, 4]), tf.constant(parents), carry + 1, tf.constant(True)

    memory = tf.constant([7, 8]), None
    history, steps, carry = run(
        step, choose, {"name": tf.constant([5, 6])}, memory, tf.constant(0), start=0, end=1, max_length=3, width=2
    )
    assert seen[0] == ([0, 0], [5, 6], [7, 8])
    assert seen[1] == ([1, 2, 3, 4], [50, 50, 60, 60], [7, 7, 8, 8])
    assert seen[2] == ([1, 2, 3, 4], [502, 501, 604, 603], [7, 7, 8, 8])
    assert int(steps) == int(carry) == 3 and history.alignment is None
    assert history.parents.numpy().tolist() == [[0, 0, 1, 1], [1, 0, 3, 2], [1, 0, 3, 2]]
