import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.ctc.lattice import interleave, may_jump, minimum_frames, valid_states

from .textbook import collapse


@pytest.mark.parametrize("blank", [0, 2, 4])
def test_states_and_jumps_match_the_definition(blank):
    generator = np.random.default_rng(blank)
    tokens = [token for token in range(5) if token != blank]
    labels = generator.choice(tokens, (20, 6)).astype("int32")
    lengths = generator.integers(0, 7, 20).astype("int32")
    labels[np.arange(6) >= lengths[:, None]] = -3  # padding is ignored
    states = interleave(labels, lengths, blank).numpy()
    jumps = may_jump(states, blank).numpy()
    valid = valid_states(lengths, 13).numpy()
    assert (states.dtype, states.shape) == ("int32", (20, 13))
    for row, length in enumerate(lengths):
        expected = [blank]
        for label in labels[row, :length]:
            expected += [int(label), blank]
        assert states[row].tolist() == expected + [blank] * (13 - len(expected))
        assert valid[row].tolist() == [True] * len(expected) + [False] * (13 - len(expected))
        for s in range(13):
            free = s % 2 == 1 and 2 < s < len(expected) and expected[s] != expected[s - 2]
            assert jumps[row, s] == free, (row, s)


def test_without_labels_there_is_one_blank():
    labels, lengths = np.zeros((2, 0), "int32"), np.zeros(2, "int32")
    states = interleave(labels, lengths, 3)
    assert states.numpy().tolist() == [[3], [3]]
    assert may_jump(states, 3).numpy().tolist() == [[False], [False]]
    assert valid_states(lengths, 1).numpy().tolist() == [[True], [True]]


def test_the_lattice_compiles_for_unknown_shapes():
    signature = [tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)]
    graph = tf.function(
        lambda labels, lengths: may_jump(interleave(labels, lengths)), input_signature=signature, jit_compile=True
    )
    jumps = graph(tf.constant([[1, 2, 2], [3, 1, 9]]), tf.constant([3, 2])).numpy().astype(int)
    assert jumps.tolist() == [[0, 0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0]]


@pytest.mark.parametrize("blank", [0, 1, 2])
def test_minimum_frames_is_the_length_of_the_shortest_path(blank):
    """Compares it to the shortest of all paths over three classes that collapses to a row of labels."""
    shortest = {}
    for frames in range(6):
        for path in itertools.product(range(3), repeat=frames):
            shortest.setdefault(tuple(collapse(path, blank)), frames)
    rows = list(shortest)
    for padding in (-1, -7, blank):
        labels = np.array([[*row, *[padding] * (6 - len(row))] for row in rows])
        found = minimum_frames(labels, blank_index=blank)
        assert found.dtype == "int32"
        np.testing.assert_array_equal(found, list(shortest.values()))


def test_labels_after_the_label_length_are_ignored():
    labels = np.array([[1, 1, 1], [1, 1, 1], [2, 1, 1], [2, 1, 1]])
    np.testing.assert_array_equal(minimum_frames(labels, [3, 2, 2, 0]), [5, 3, 2, 0])


def test_minimum_frames_without_labels():
    np.testing.assert_array_equal(minimum_frames(np.zeros((2, 0), "int32")), [0, 0])
    assert minimum_frames(np.zeros((0, 3), "int32")).shape == (0,)


def test_minimum_frames_in_a_graph_with_unknown_shapes():
    graph = tf.function(minimum_frames, input_signature=[tf.TensorSpec([None, None], tf.int32)])
    np.testing.assert_array_equal(graph(np.array([[3, 3, 0], [1, 2, 1]])), [3, 3])
    np.testing.assert_array_equal(graph(np.array([[3], [0]])), [1, 0])
