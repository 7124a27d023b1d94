import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.decoding import greedy_search

from .toy_decoders import Growing, Toy, answer, check, tables


def plain_greedy(table, end, steps, min_length=0):
    labels = ()
    while len(labels) < steps:
        scores = np.array(table[labels][0])
        scores[end] = scores[end] if len(labels) >= min_length else -np.inf
        if scores.argmax() == end:
            return answer(table, labels, end)
        labels += (int(scores.argmax()),)
    return answer(table, labels, end, finished=False)


@pytest.mark.parametrize("min_length", [0, 3])
@pytest.mark.parametrize("kind", [Toy, Growing])
def test_takes_the_most_probable_token(kind, min_length):
    lengths = set()
    for seed in range(3):
        toy = kind(seed, rows=4)
        decoded = greedy_search(toy.step, toy.state, toy.memory, start=0, end=3, max_length=5, min_length=min_length)
        for row, table in enumerate(tables(toy, 0, 3, 5)):
            check(decoded, row, [plain_greedy(table, 3, 5, min_length)])
        lengths |= set(decoded.lengths.numpy().ravel())
    assert len(lengths) > 2 and min(lengths) >= min_length


def test_it_stops_when_all_rows_have_ended():
    steps = []

    def step(tokens, time, state, memory):
        steps.append(int(time))
        return tf.one_hot(tf.where(time < memory, 2, 0), 3) * 9, state, None

    decoded = greedy_search(step, (), tf.constant([1, 4, 0]), start=1, end=0, max_length=20)
    assert steps == [0, 1, 2, 3, 4] and decoded.lengths.numpy().tolist() == [[1], [4], [0]]
    assert decoded.tokens[0, 0].numpy().tolist() == [2] + [-1] * 19


def test_nan_is_never_chosen():
    def step(tokens, time, state, memory):
        return tf.constant([[np.nan, 0.0, 1.0], [np.nan] * 3, [0.0, -np.inf, np.nan]]), state, None

    decoded = greedy_search(step, (), tf.zeros([3]), start=1, end=0, max_length=2)
    assert decoded.tokens.numpy().tolist() == [[[2, 2]], [[-1, -1]], [[-1, -1]]]
    assert decoded.finished.numpy().tolist() == [[False], [False], [True]]
    np.testing.assert_allclose(decoded.score[:, 0], [2 * np.log(np.e / (1 + np.e)), -np.inf, 0.0], rtol=1e-6)


def test_steps_after_the_end_are_ignored():
    """After its end, a row has NaN in its logits, state and alignment, while another row continues."""

    def step(tokens, time, state, memory):
        ended = tf.where(time > memory, np.nan, 0.0)[:, None]
        return tf.one_hot(tf.where(time < memory, 2, 0), 3) + ended, state + ended, tf.ones([2, 4]) / 4 + ended

    decoded = greedy_search(step, tf.zeros([2, 1]), tf.constant([1, 5]), start=1, end=0, max_length=9)
    assert decoded.lengths.numpy().tolist() == [[1], [5]] and np.isfinite(decoded.score).all()
    np.testing.assert_array_equal(decoded.alignment[0, 0, 1:], 0)
