"""The CTC loss."""

import tensorflow as tf
from keras import ops

from keras_dl.ops.ctc.certain_blank import certain_blank


def ctc_loss(labels, logits, label_length=None, logit_length=None, blank_index=0):
    """Negative log probability of the labels, `-log p(labels | logits)`, per sequence.

    Stands on `tf.nn.ctc_loss` (dense), with what stands in the padding made harmless. A row whose labels do not fit
    into its frames (T < L + number of equal neighbours) has a large finite loss, as in TensorFlow.

    Args:
        labels: int tensor `[B, L]`, padded with the blank or with negative numbers.
        logits: float tensor `[B, T, V]`, unnormalised.
        label_length: int tensor `[B]`, or None (default) to count the entries that are not padding.
        logit_length: int tensor `[B]`, or None (default) for T.
        blank_index: int, the class of the blank. Defaults to 0.

    Returns:
        float32 tensor `[B]`.

    Example:

    >>> import numpy as np
    >>> uniform = np.zeros((1, 2, 3), "float32")                 # two frames, blank and two labels, each 1/3
    >>> loss = ctc_loss(np.array([[1]]), uniform)                # paths: 11, 1-, -1: three of nine
    >>> round(float(np.exp(-loss[0])), 4)
    0.3333
    """
    labels = ops.cast(labels, "int32")
    logits = ops.cast(logits, "float32")
    valid = ops.logical_and(labels >= 0, labels != blank_index)
    if label_length is None:
        label_length = ops.sum(ops.cast(valid, "int32"), axis=1)
    frames = ops.shape(logits)[1]
    if logit_length is None:
        logit_length = tf.fill([ops.shape(logits)[0]], frames)
    else:
        logits = certain_blank(logits, tf.sequence_mask(logit_length, frames), blank_index)
    return tf.nn.ctc_loss(
        ops.where(valid, labels, blank_index),
        logits,
        ops.cast(label_length, "int32"),
        ops.cast(logit_length, "int32"),
        logits_time_major=False,
        blank_index=blank_index,
    )
