"""Rows of unequal length, as losses, metrics and decoders may receive them, as dense tensors."""

import keras
import numpy as np
from keras import ops


def dense(rows, padding=0, dtype=None):
    """Converts rows of unequal length, a `tf.RaggedTensor` or a list, to a tensor; returns anything else unchanged.

    Args:
        rows: ragged tensor `[B, None, ...]`, or list of B rows.
        padding: number to fill short rows with. Defaults to 0.
        dtype: str, dtype of the tensor. Defaults to None: that of the rows.

    Returns:
        `(rows, lengths)`: a tensor and int32 `[B]`; or the argument itself and None if its rows are of equal length.

    Example:

    >>> rows, lengths = dense([[1, 2], [3]], padding=-1)
    >>> rows.numpy().tolist(), lengths.numpy().tolist()
    ([[1, 2], [3, -1]], [2, 1])
    """
    if hasattr(rows, "row_lengths"):
        rows = rows if dtype is None else ops.cast(rows, dtype)
        return rows.to_tensor(padding), ops.cast(rows.row_lengths(), "int32")
    if isinstance(rows, list | tuple) and len({tuple(np.shape(row)[:1]) for row in rows}) > 1:
        dtype = np.result_type(*map(np.asarray, rows)) if dtype is None else dtype
        padded = keras.utils.pad_sequences(rows, dtype=dtype, padding="post", value=padding)
        return ops.convert_to_tensor(padded), ops.convert_to_tensor([len(row) for row in rows], "int32")
    return rows, None


def with_mask(rows):
    """Returns predictions or targets as a tensor, and their mask.

    Args:
        rows: tensor `[B, T, ...]` with or without a Keras mask, or rows of unequal length (see `dense`).

    Returns:
        `(tensor, mask)`. The mask is a bool tensor `[B, T]`, False at padding, or None if nothing marks padding.

    Example:

    >>> y_pred, mask = with_mask([[[0.5, 1.5], [2.5, 3.5]], [[4.5, 5.5]]])
    >>> y_pred.shape, mask.numpy().tolist()
    (TensorShape([2, 2, 2]), [[True, True], [True, False]])
    """
    mask = getattr(rows, "_keras_mask", None)
    tensor, lengths = dense(rows)
    tensor = ops.convert_to_tensor(tensor)
    if lengths is not None:
        mask = ops.arange(ops.shape(tensor)[1], dtype="int32") < ops.expand_dims(lengths, -1)
    return tensor, mask
