import numpy as np
import tensorflow as tf

from keras_dl.ops.decoding.decoded import traced
from keras_dl.ops.decoding.loop import History


def test_steps_that_were_not_run_are_skipped(monkeypatch):
    tokens, parents = tf.constant([[5, 6], [7, 8], [0, 0]]), tf.constant([[0, 0], [1, 0], [0, 0]])
    loop, first = tf.while_loop, []
    monkeypatch.setattr(tf, "while_loop", lambda *a, **o: first.append(int(a[2][0])) or loop(*a, **o))
    found, _ = traced(History(tokens, parents, None), place=[[0, 1]], length=[[2, 2]])
    assert found.numpy().tolist() == [[[6, 7, -1], [5, 8, -1]]] and first == [1]
    monkeypatch.undo()
    nothing, _ = tf.function(traced)(History(tokens, parents, None), place=[[0, 1]], length=[[0, 0]])
    assert nothing.numpy().tolist() == [[[-1] * 3] * 2]


def test_tracing_matches_copied_histories():
    """Compares it to a search that copies the history of each hypothesis in every step."""
    generator = np.random.default_rng(0)
    rows, width, steps, places = 3, 4, 6, 2
    count = rows * width
    tokens = generator.integers(0, 100, [steps, count])
    alignment = generator.random([steps, count, places]).astype("float32")
    row = np.repeat(np.arange(rows), width)
    parents = row * width + generator.integers(0, width, [steps, count])
    parents[0] = row
    copies, after = [[]] * rows, []
    for time in range(steps):
        copies = [copies[parents[time, n]] + [(time, n)] for n in range(count)]
        after.append(copies)
    place, length = (
        generator.integers(0, width, [rows, 2]) + width * np.arange(rows)[:, None],
        np.array([[6, 3], [1, 0], [5, 2]]),
    )
    history = History(tf.constant(tokens, tf.int32), tf.constant(parents, tf.int32), tf.constant(alignment))
    found, attended = traced(history, tf.constant(place, tf.int32), tf.constant(length, tf.int32))
    assert found.shape == [rows, 2, steps] and attended.shape == [rows, 2, steps, places]
    for answer in np.ndindex(rows, 2):
        path = after[length[answer] - 1][place[answer]] if length[answer] else []
        rest = steps - len(path)
        assert found[answer].numpy().tolist() == [tokens[there] for there in path] + [-1] * rest
        expected = np.array([alignment[there] for there in path] + [np.zeros(places)] * rest)
        np.testing.assert_array_equal(attended[answer], expected)
