"""The CTC lattice: its states, transitions and minimum length.

At each frame, a path is in one of S = 2L + 1 states: blank, y1, blank, y2, ..., yL, blank. From one frame to the next
it stays, moves to the next state, or jumps over a blank that is not required. It starts in one of the first two states
and ends in one of the last two states of its row.

Reference: Graves et al. 2006, section 4.1. https://www.cs.toronto.edu/~graves/icml_2006.pdf
"""

import tensorflow as tf
from keras import ops

from keras_dl.ops.checks import require_rank
from keras_dl.ops.dense import dense


def interleave(labels, label_length, blank_index=0):
    """Returns the class of every state: the labels with blanks before, between and after them.

    Args:
        labels: int32 tensor `[B, L]`; entries after the label length are ignored.
        label_length: int32 tensor `[B]`.
        blank_index: int, the class of the blank. Defaults to 0.

    Returns:
        int32 tensor `[B, 2L + 1]`, padded with the blank.

    Example:

    >>> interleave(tf.constant([[1, 2], [3, -1]]), tf.constant([2, 1])).numpy()
    array([[0, 1, 0, 2, 0],
           [0, 3, 0, 0, 0]], dtype=int32)
    """
    batch, length = tf.unstack(tf.shape(labels))
    labels = tf.where(tf.sequence_mask(label_length, length), labels, blank_index)
    pairs = tf.stack([tf.fill([batch, length], blank_index), labels], axis=-1)
    return tf.pad(tf.reshape(pairs, [batch, 2 * length]), [[0, 0], [0, 1]], constant_values=blank_index)


def may_jump(states, blank_index=0):
    """Returns whether a path may enter each state from two states before.

    It may if the blank between them is not required: into a label that differs from the previous label.

    Args:
        states: int32 tensor `[B, S]` of `interleave`.
        blank_index: int, the class of the blank. Defaults to 0.

    Returns:
        bool tensor `[B, S]`.

    Example:

    >>> may_jump(interleave(tf.constant([[1, 1, 2]]), tf.constant([3]))).numpy()
    array([[False, False, False, False, False,  True, False]])
    """
    before = tf.pad(states, [[0, 0], [2, 0]], constant_values=blank_index)[:, :-2]
    inside = tf.range(tf.shape(states)[1]) >= 2  # there is no state two before the first label
    return inside & (states != blank_index) & (states != before)


def valid_states(label_length, count):
    """Returns the states that belong to each row: the first `2 * label_length + 1`.

    Args:
        label_length: int32 tensor `[B]`.
        count: int, the number S of states.

    Returns:
        bool tensor `[B, S]`.

    Example:

    >>> valid_states(tf.constant([1, 0]), 5).numpy().astype(int)
    array([[1, 1, 1, 0, 0],
           [1, 0, 0, 0, 0]])
    """
    return tf.sequence_mask(2 * label_length + 1, count)


def minimum_frames(labels, label_length=None, blank_index=0):
    """Returns the fewest frames in which CTC can emit the labels: one per label and one per blank between equal labels.

    No path of fewer frames collapses to the labels.

    Args:
        labels: int tensor `[B, L]`, padded at the end with the blank or with negative numbers, or ragged.
        label_length: int tensor `[B]`, or None (default) to count the entries that are not padding.
        blank_index: int, the class of the blank. Defaults to 0.

    Returns:
        int32 tensor `[B]`.

    Example:

    >>> import numpy as np
    >>> minimum_frames(np.array([[1, 2, 2], [1, -1, -1], [0, 0, 0]])).numpy().tolist()     # 1 2 - 2; 1; no labels
    [4, 1, 0]
    """
    labels = ops.cast(dense(labels, -1, "int32")[0], "int32")
    require_rank("labels", labels.shape, "[B, L]")
    if label_length is None:
        valid = ops.logical_and(labels >= 0, labels != blank_index)
        label_length = ops.sum(ops.cast(valid, "int32"), axis=1)
    label_length = ops.cast(label_length, "int32")
    inside = ops.arange(ops.shape(labels)[1], dtype="int32")[1:] < ops.expand_dims(label_length, -1)
    equal = ops.logical_and(labels[:, 1:] == labels[:, :-1], inside)
    return label_length + ops.sum(ops.cast(equal, "int32"), axis=1)
