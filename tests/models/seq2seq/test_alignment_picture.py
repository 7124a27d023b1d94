"""Tests of the alignment heat maps."""

import matplotlib.pyplot as plt
import numpy as np

from keras_dl.models.seq2seq.alignment_picture import alignment_picture


def test_each_example_has_a_heat_map():
    longer = np.eye(6, 7)  # padded beyond both sequences
    examples = [("zwei = two", list("zwei"), list("two"), longer), ("a", ["_one", "b"], ["c"], np.ones((1, 2)))] * 2
    figure = alignment_picture(examples[:3])
    figure.canvas.draw()
    first, second, _, empty = figure.axes
    assert first.get_title() == "zwei = two" and not empty.axison
    np.testing.assert_array_equal(first.images[0].get_array(), np.eye(3, 4))
    assert [label.get_text() for label in first.get_xticklabels()] == list("zwei")
    assert [label.get_text() for label in second.get_yticklabels()] == ["c"]
    assert {label.get_rotation() for label in first.get_xticklabels()} == {0}
    assert {label.get_rotation() for label in second.get_xticklabels()} == {90}
    plt.close(figure)
