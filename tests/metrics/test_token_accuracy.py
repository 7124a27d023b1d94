"""TokenAccuracy: counted over labels and batches, without padding."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.losses import SequenceCrossEntropy
from keras_dl.metrics import TokenAccuracy


def logits_of(ids, classes=5):
    """Returns logits whose largest entries are the ids, and NaN for negative ids."""
    logits = np.where(np.eye(classes)[ids], 2.0, -1.0).astype("float32")
    return np.where(np.array(ids)[..., None] < 0, np.nan, logits)


def accuracy(*batches):
    metric = TokenAccuracy()
    for batch in batches:
        metric.update_state(*batch)
    return float(metric.result())


def test_counts_labels_and_not_padding():
    assert accuracy((np.array([[1, 2, 3], [4, 0, 0]]), logits_of([[1, 2, 2], [4, 0, -1]]))) == 3 / 4


def test_counts_over_all_batches():
    first = np.array([[1, 2, 3, 4]]), logits_of([[1, 2, 3, 4]])
    second = np.array([[1, 0, 0, 0]]), logits_of([[2, 0, 0, 0]])
    assert accuracy(first, second) == pytest.approx(4 / 5)


def test_without_labels_the_result_is_zero():
    assert accuracy() == 0
    assert accuracy((np.zeros((2, 3), int), logits_of([[0, 0, 0], [-1, -1, -1]]))) == 0


def test_masked_positions_are_ignored():
    logits = tf.constant(logits_of([[1, 2, 3], [1, 2, -1]]))
    logits._keras_mask = tf.constant([[True, False, False], [True, True, False]])
    assert accuracy((np.array([[1, 1, 1], [1, 1, 1]]), logits)) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("weights", "expected"), [([2.0, 1.0], 4 / 5), ([[1, 0, 9], [5, 9, 9]], 1 / 6), ([0.0, 0.0], 0)]
)
def test_weights_of_rows_and_of_labels(weights, expected):
    labels, logits = np.array([[1, 2, 0], [4, 0, 0]]), logits_of([[1, 2, 0], [3, 0, 0]])
    assert accuracy((labels, logits, np.array(weights))) == pytest.approx(expected)


def test_reset_and_serialization():
    metric = TokenAccuracy(name="letters")
    metric.update_state(np.array([[1]]), logits_of([[1]]))
    metric.reset_state()
    assert metric.result() == 0
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert isinstance(again, TokenAccuracy) and again.name == "letters"


def test_evaluate_does_not_depend_on_the_batch_size():
    labels = np.array([[1, 2, 3], [4, 0, 0], [2, 2, 0]])
    model = keras.Sequential([keras.Input((None, 5)), keras.layers.Identity()])
    model.compile(loss=SequenceCrossEntropy(), metrics=[TokenAccuracy()])
    logits = logits_of([[1, 2, 3], [3, 0, 0], [2, 1, 0]])
    for size in (1, 2, 3):
        found = model.evaluate(logits, labels, batch_size=size, verbose=0, return_dict=True)
        assert found["token_accuracy"] == pytest.approx(4 / 6)
