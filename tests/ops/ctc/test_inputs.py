"""Validation of labels, logits and lengths, tested through the loss, which takes all of them."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.ctc import ctc_loss


def test_nan_in_a_valid_frame_raises_and_gives_nan_in_a_graph():
    logits = np.zeros((3, 4, 3), "float32")
    logits[1, 2, 0] = np.nan
    labels, lengths = np.array([[1], [1], [2]]), np.array([4, 4, 4])
    with pytest.raises(ValueError, match="Received in row 1: NaN or infinity in frame 2"):
        ctc_loss(labels, logits)
    loss = tf.function(ctc_loss, autograph=False)(labels, tf.constant(logits), logit_length=lengths).numpy()
    assert np.isnan(loss).tolist() == [False, True, False]
    assert np.isfinite(ctc_loss(labels, logits, logit_length=[4, 2, 4])).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": [[1, 3]]}, r"classes from 0 to 2 other than the blank 0. Received in row 0: \[1 3\]"),
        ({"labels": [[1, 0, 2]]}, "Labels must be classes"),  # a blank between labels
        ({"label_length": [3]}, "Label lengths must be from 0 to 2. Received in row 0: 3"),
        ({"label_length": [-1]}, "Label lengths"),
        ({"logit_length": [5]}, "Logit lengths must be from 0 to 4. Received in row 0: 5"),
        ({"logit_length": [4, 4]}, r"`logit_length` must be integers \[1\]. Received: int32 \(2,\)"),
        ({"logit_length": 4}, "`logit_length` must be integers"),
        ({"label_length": [1.5]}, "`label_length` must be integers"),
        ({"logits": np.full((1, 4, 3), np.inf, "float32")}, "must not be NaN, and the largest must be finite"),
        ({"logits": np.zeros((1, 4, 0), "float32"), "labels": [[]]}, "`blank_index` must be a class from 0 to -1"),
        ({"blank_index": 3}, "`blank_index` must be a class from 0 to 2. Received: 3"),
        ({"logits": np.zeros((4, 3))}, "Expected labels"),
        ({"impossible": "ignore"}, "Received: 'ignore'"),
    ],
)
def test_invalid_inputs_raise(arguments, message):
    given = {"labels": [[1, 2]], "logits": np.zeros((1, 4, 3), "float32")} | arguments
    with pytest.raises(ValueError, match=message):
        ctc_loss(**given)


def test_numpy_integers_are_accepted():
    values = np.random.default_rng(0).normal(size=(1, 4, 3)).astype("float32")
    np.testing.assert_array_equal(
        ctc_loss([[1]], values, blank_index=np.int64(2)), ctc_loss([[1]], values, blank_index=2)
    )
