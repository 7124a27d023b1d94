"""How many frames a row of labels needs."""

from keras import ops


def minimum_frames(labels, label_length=None, blank_index=0):
    """The fewest frames in which CTC can emit the labels: one each, and a blank between equal neighbours.

    A row with fewer frames is impossible: no path collapses to its labels.

    Args:
        labels: int tensor `[B, L]`, padded at the end with the blank or with negative numbers.
        label_length: int tensor `[B]`, or None (default) to count the entries that are not padding.
        blank_index: int, the class of the blank. Defaults to 0.

    Returns:
        int32 tensor `[B]`.

    Example:

    >>> import numpy as np
    >>> minimum_frames(np.array([[1, 2, 2], [1, -1, -1], [0, 0, 0]])).numpy().tolist()     # 1 2 - 2; 1; nothing
    [4, 1, 0]
    """
    labels = ops.cast(labels, "int32")
    if label_length is None:
        valid = ops.logical_and(labels >= 0, labels != blank_index)
        label_length = ops.sum(ops.cast(valid, "int32"), axis=1)
    label_length = ops.cast(label_length, "int32")
    inside = ops.arange(ops.shape(labels)[1])[1:] < ops.expand_dims(label_length, -1)
    equal = ops.logical_and(labels[:, 1:] == labels[:, :-1], inside)
    return label_length + ops.sum(ops.cast(equal, "int32"), axis=1)
