"""ExactMatch: whole rows, and agreement with greedy decoding under teacher forcing."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.metrics import ExactMatch


def logits_of(ids, classes=5):
    logits = np.where(np.eye(classes)[ids], 2.0, -1.0).astype("float32")
    return np.where(np.array(ids)[..., None] < 0, np.nan, logits)


def share(*batches):
    metric = ExactMatch()
    for batch in batches:
        metric.update_state(*batch)
    return float(metric.result())


def test_a_row_matches_if_every_label_is_right():
    labels = np.array([[1, 2, 3], [1, 2, 3], [4, 0, 0], [4, 3, 0]])
    assert share((labels, logits_of([[1, 2, 3], [1, 2, 2], [4, 1, -1], [4, -1, 0]]))) == 2 / 4


def test_rows_are_counted_over_all_batches_without_empty_ones():
    first = np.array([[1, 2], [2, 0], [0, 0]]), logits_of([[1, 2], [2, 4], [1, 1]])
    second = np.array([[3, 3]]), logits_of([[3, 1]])
    assert share(first, second) == pytest.approx(2 / 3)
    assert share() == 0
    assert share((np.zeros((2, 3), int), logits_of([[0, 0, 0], [-1, -1, -1]]))) == 0


def test_masked_positions_are_ignored():
    logits = tf.constant(logits_of([[1, 2, 3], [1, 2, -1], [1, 1, 1]]))
    logits._keras_mask = tf.constant([[True, True, False], [True, True, False], [False, False, False]])
    assert share((np.array([[1, 2, 1], [1, 1, 1], [2, 2, 2]]), logits)) == pytest.approx(1 / 2)


def test_matches_greedy_decoding():
    """Random chains, in which the logits of each label depend on the previous one."""
    generator, shares = np.random.default_rng(0), []
    targets = [[*labels, 3] for length in range(4) for labels in itertools.product([1, 4], repeat=length)]
    labels = np.array([target + [0] * (4 - len(target)) for target in targets])
    inputs = np.pad(labels[:, :-1], [[0, 0], [1, 0]], constant_values=2)
    for _ in range(20):
        chain, written = generator.normal(size=(5, 5)), [2]
        while len(written) < 8 and written[-1] != 3:
            written.append(int(chain[written[-1]].argmax()))
        shares.append(share((labels, chain[inputs])))
        assert shares[-1] == pytest.approx(np.mean([target == written[1:] for target in targets]))
    assert 0 < np.mean(np.array(shares) > 0) < 1


def test_sample_weights_raise():
    with pytest.raises(ValueError, match="does not support `sample_weight`"):
        ExactMatch().update_state(np.array([[1]]), logits_of([[1]]), sample_weight=np.array([1.0]))


def test_reset_and_serialization():
    metric = ExactMatch(name="words")
    metric.update_state(np.array([[1]]), logits_of([[1]]))
    assert metric.result() == 1
    metric.reset_state()
    assert metric.result() == 0
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert isinstance(again, ExactMatch) and again.name == "words"
