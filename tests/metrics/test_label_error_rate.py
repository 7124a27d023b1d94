"""LabelErrorRate: edits, the corpus, blanks and masks; see also test_ctc_ratio."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.layers import CTCOutput
from keras_dl.metrics import LabelErrorRate


def path_logits(*paths, classes=4):
    """Returns logits whose most probable classes are these."""
    return np.eye(classes, dtype="float32")[list(paths)] * 9


def rate(*batches, **options):
    metric = LabelErrorRate(**options)
    for labels, logits in batches:
        metric.update_state(np.array(labels), logits)
    return float(metric.result())


@pytest.mark.parametrize(
    ("path", "labels", "expected"),
    [
        ([1, 1, 0, 2], [1, 2], 0),
        ([1, 0, 1, 2], [1, 2], 1 / 2),  # one insertion
        ([1, 0, 0, 0], [1, 2], 1 / 2),  # one deletion
        ([1, 3, 3, 0], [1, 2], 1 / 2),  # one substitution
        ([0, 0, 0, 0], [1, 2], 1),
        ([1, 2, 1, 2], [3], 4),  # more than 1
        ([2, 1, 0, 0], [1, 2], 1),
    ],
)
def test_counts_edits_over_labels(path, labels, expected):
    assert rate(([[*labels, -1, 0]], path_logits(path))) == pytest.approx(expected)


def test_the_rate_is_that_of_the_corpus_and_not_a_mean_of_means():
    short = [[1, -1, -1, -1]], path_logits([2, 0, 0, 0])  # 1 edit, 1 label
    long = [[1, 2, 1, 2], [1, 2, 3, -1]], path_logits([1, 2, 1, 2], [1, 2, 3, 0])  # 0 edits, 7 labels
    assert rate(short) == 1
    assert rate(long) == 0
    assert rate(short, long) == rate(long, short) == pytest.approx(1 / 8)


def test_without_labels_and_edits_the_rate_is_zero():
    assert LabelErrorRate().result() == 0
    assert rate(([[-1, 0]], path_logits([0, 0]))) == 0


@pytest.mark.parametrize("blank", [0, 1, 3])
def test_any_class_may_be_the_blank(blank):
    first, second, third = (c for c in range(4) if c != blank)
    logits = path_logits([first, first, blank, first, second, blank])
    # Padded with the blank, and with a negative number.
    for padding in (blank, -1):
        assert rate(([[first, first, second, padding]], logits), blank_index=blank) == 0
        assert rate(([[first, first, third, padding]], logits), blank_index=blank) == pytest.approx(1 / 3)


@pytest.mark.parametrize("mask", [[True, True, False, False], [False, False, True, True], [True, False, False, True]])
def test_masked_frames_are_ignored(mask):
    logits = path_logits([1, 1, 1, 1])
    logits[0, ~np.array(mask)] = path_logits([3, 2])
    expected = [1, 1] if mask[0] and mask[3] else [1]  # the frames between are blanks, as in the loss
    tensor = tf.constant(logits)
    assert rate(([expected], tensor)) > 0
    tensor._keras_mask = tf.constant([mask])
    assert rate(([expected], tensor)) == 0


def test_evaluate_on_several_batches_counts_the_corpus():
    frames = keras.Input((None, 3))
    output = CTCOutput(["a", "b"], kernel_initializer=keras.initializers.Identity(), dtype="float32")
    model = keras.Model(frames, output(frames))
    model.compile(loss=lambda y_true, y_pred: 0.0 * y_pred[:, 0, 0], metrics=[LabelErrorRate()])
    inputs = path_logits([1, 0, 2], [1, 1, 1], [0, 0, 0], classes=3)
    labels = np.array([[1, 2], [2, -1], [1, 2]])  # 0, 1 and 2 edits over 5 labels
    for batch_size in (1, 2, 3):
        found = model.evaluate(inputs, labels, batch_size=batch_size, verbose=0, return_dict=True)
        assert found["label_error_rate"] == pytest.approx(3 / 5)


def test_insertions_without_labels_give_an_infinite_rate():
    assert rate(([[-1, 0]], path_logits([1, 0]))) == np.inf
