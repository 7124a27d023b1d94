"""Tests of the fingerprint: equal for equal content, in every process."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.data import fingerprint


def rows(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays).batch(2)


def test_is_the_same_in_every_process():
    """Compares with a constant, which would fail for anything that differs between processes, such as addresses."""
    features = {"text": np.array(["one", "zwei", ""]), "number": np.arange(3.0)}
    assert fingerprint(tf.data.Dataset.from_tensor_slices(features).batch(2)) == "a5cbfe054b1a227f"


def test_is_the_same_on_a_second_reading():
    data = rows(np.arange(5), np.ones([5, 2], "float32"))
    assert fingerprint(data) == fingerprint(data) == fingerprint(rows(np.arange(5), np.ones([5, 2], "float32")))


BASE = np.arange(6)


@pytest.mark.parametrize(
    "other",
    [
        tf.data.Dataset.from_tensor_slices(BASE).batch(3),
        tf.data.Dataset.from_tensor_slices(BASE[::-1].copy()).batch(2),
        tf.data.Dataset.from_tensor_slices(BASE.astype("int32")).batch(2),
        tf.data.Dataset.from_tensor_slices(BASE.astype("float64")).batch(2),
        tf.data.Dataset.from_tensor_slices(BASE[:5]).batch(2),
        tf.data.Dataset.from_tensor_slices(BASE.reshape(6, 1)).batch(2),
        tf.data.Dataset.from_tensor_slices(np.where(BASE == 5, 6, BASE)).batch(2),
    ],
)
def test_changes_with_batching_order_dtype_count_shape_and_values(other):
    assert fingerprint(other) != fingerprint(tf.data.Dataset.from_tensor_slices(BASE).batch(2))


def test_changes_with_a_text():
    texts = [["ab", "c"], ["a", "bc"], ["ab", "d"], ["ab", ""]]
    assert len({fingerprint(rows(np.array(text))) for text in texts}) == 4
