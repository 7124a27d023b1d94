"""ExactMatch: whole rows, and that under teacher forcing they are what greedy decoding writes."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.metrics import ExactMatch


def said(ids, classes=5):
    logits = np.where(np.eye(classes)[ids], 2.0, -1.0).astype("float32")
    return np.where(np.array(ids)[..., None] < 0, np.nan, logits)


def share(*batches):
    metric = ExactMatch()
    for batch in batches:
        metric.update_state(*batch)
    return float(metric.result())


def test_a_row_counts_if_every_label_is_right():
    labels = np.array([[1, 2, 3], [1, 2, 3], [4, 0, 0], [4, 3, 0]])
    assert share((labels, said([[1, 2, 3], [1, 2, 2], [4, 1, -1], [4, -1, 0]]))) == 2 / 4


def test_rows_are_counted_over_all_batches_and_empty_ones_never():
    first = np.array([[1, 2], [2, 0], [0, 0]]), said([[1, 2], [2, 4], [1, 1]])
    second = np.array([[3, 3]]), said([[3, 1]])
    assert share(first, second) == pytest.approx(2 / 3)
    assert share() == 0
    assert share((np.zeros((2, 3), int), said([[0, 0, 0], [-1, -1, -1]]))) == 0


def test_masked_positions_do_not_count():
    logits = tf.constant(said([[1, 2, 3], [1, 2, -1], [1, 1, 1]]))
    logits._keras_mask = tf.constant([[True, True, False], [True, True, False], [False, False, False]])
    assert share((np.array([[1, 2, 1], [1, 1, 1], [2, 2, 2]]), logits)) == pytest.approx(1 / 2)


def test_is_what_greedy_decoding_writes_exactly():
    """Random chains: each label's logits depend on the one before, and so does what greedy decoding reads."""
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


def test_weights_are_refused():
    with pytest.raises(ValueError, match="takes no `sample_weight`"):
        ExactMatch().update_state(np.array([[1]]), said([[1]]), sample_weight=np.array([1.0]))


def test_forgets_and_is_saved():
    metric = ExactMatch(name="words")
    metric.update_state(np.array([[1]]), said([[1]]))
    assert metric.result() == 1
    metric.reset_state()
    assert metric.result() == 0
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert isinstance(again, ExactMatch) and again.name == "words"
