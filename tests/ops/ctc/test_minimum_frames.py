import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.ctc import minimum_frames

from .textbook import collapse


@pytest.mark.parametrize("blank", [0, 1, 2])
def test_it_is_the_length_of_the_shortest_path(blank):
    """Of all paths over three classes: the shortest that collapses to a row of labels."""
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


def test_a_label_length_cuts_the_labels():
    labels = np.array([[1, 1, 1], [1, 1, 1], [2, 1, 1], [2, 1, 1]])
    np.testing.assert_array_equal(minimum_frames(labels, [3, 2, 2, 0]), [5, 3, 2, 0])


def test_no_labels_at_all():
    np.testing.assert_array_equal(minimum_frames(np.zeros((2, 0), "int32")), [0, 0])
    assert minimum_frames(np.zeros((0, 3), "int32")).shape == (0,)


def test_in_a_graph_of_unknown_shape():
    graph = tf.function(minimum_frames, input_signature=[tf.TensorSpec([None, None], tf.int32)])
    np.testing.assert_array_equal(graph(np.array([[3, 3, 0], [1, 2, 1]])), [3, 3])
    np.testing.assert_array_equal(graph(np.array([[3], [0]])), [1, 0])
