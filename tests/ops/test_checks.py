"""Limits of served inputs, in a graph."""

import pytest
import tensorflow as tf

from keras_dl.ops.checks import limited


@tf.function(input_signature=[tf.TensorSpec([None], tf.int32), tf.TensorSpec([], tf.int32)])
def zeros(sizes, rows):
    sizes = limited("size", sizes, 0, 100, rows, most_in_all=1000)
    return tf.zeros([rows, 1_000_000 * tf.reduce_max(sizes)])


def test_values_in_range_are_returned():
    assert zeros([0, 2], 1).shape == (1, 2_000_000)


@pytest.mark.parametrize(
    "sizes, rows, message",
    [
        ([1, -1], 1, "size must be from 0 to 100"),
        ([1, 101], 1, "size must be from 0 to 100"),
        ([1, 2**31 - 1], 1, "size must be from 0 to 100"),
        ([1, 100], 11, "size times the number of rows must be at most 1000"),
        ([1, 100], 2**31 - 1, "size times the number of rows must be at most 1000"),
    ],
)
def test_nothing_is_allocated_before_the_check(sizes, rows, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):  # otherwise ResourceExhaustedError or a crash
        zeros(sizes, rows)
