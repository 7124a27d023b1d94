import numpy as np
import pytest

from keras_dl.metrics import SequenceAccuracy


def path_logits(*paths):
    return np.eye(4, dtype="float32")[list(paths)] * 9


@pytest.mark.parametrize("blank", [0, 2])
def test_counts_rows_without_edits(blank):
    one, two = 1, 3
    logits = path_logits([one, one, two], [one, blank, one], [one, one, one], [blank] * 3, [two, one, blank])
    labels = [[one, two, blank], [one, one, -1], [one, one, -1], [blank, blank, -1], [two, -1, -1]]
    metric = SequenceAccuracy(blank)
    metric.update_state(np.array(labels), logits)
    assert float(metric.result()) == pytest.approx(3 / 5)  # the third lacks a token, the last has one too many
    metric.update_state(np.array(labels[:2]), logits[:2])
    assert float(metric.result()) == pytest.approx(5 / 7)


def test_a_row_of_a_different_length_is_wrong_but_padding_is_not():
    metric = SequenceAccuracy()
    metric.update_state(np.array([[1, 2, 3, -1, -1, -1]]), path_logits([1, 2]))
    assert metric.result() == 0
    metric.update_state(np.array([[1, 2, 0, -1, -1, -1]]), path_logits([1, 2]))
    assert metric.result() == 0.5
