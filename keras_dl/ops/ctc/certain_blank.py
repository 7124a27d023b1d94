"""Padding in CTC: frames that emit the blank with probability one."""

import keras
from keras import ops


def certain_blank(logits, mask, blank_index=0):
    """Makes every masked frame emit the blank with probability one.

    Such a frame changes no CTC loss and adds no token to a decoding, so later functions do not need the lengths.

    Args:
        logits: float tensor `[B, T, V]`; masked frames may contain any values, including NaN.
        mask: bool tensor `[B, T]`, False at padded frames.
        blank_index: int, the class of the blank. Defaults to 0.

    Returns:
        Tensor of the shape and dtype of `logits`.

    Example:

    >>> logits = keras.ops.ones((1, 2, 3))
    >>> certain_blank(logits, keras.ops.array([[True, False]]))[0, 1].numpy().argmax()
    np.int64(0)
    """
    dtype = keras.backend.standardize_dtype(logits.dtype)
    # Finite, because -inf - -inf is NaN; half of the float16 range, far below any logit in float32.
    low = -3e4 if dtype == "float16" else -1e9
    blank = ops.cast(ops.one_hot(blank_index, ops.shape(logits)[-1], dtype=dtype) * -low + low, dtype)
    return ops.where(ops.expand_dims(mask, -1), logits, blank)


def may_emit_label(logits, blank_index=0):
    """Returns where a class other than the blank is possible: False at frames that only `certain_blank` can have set.

    Args:
        logits: float tensor `[B, T, V]`.
        blank_index: int, the class of the blank. Defaults to 0.

    Returns:
        bool tensor `[B, T]`.

    Example:

    >>> logits = certain_blank(keras.ops.ones((1, 2, 3)), keras.ops.array([[True, False]]))
    >>> may_emit_label(logits).numpy().tolist()
    [[True, False]]
    """
    half = keras.backend.standardize_dtype(logits.dtype) == "float16"
    blank = logits[..., blank_index : blank_index + 1]
    # Halved, because float16 overflows above 65504. The blank itself counts as one; a second class may be a label.
    far = blank / 2 - logits / 2 > (1e4 if half else 5e7)
    return ops.sum(ops.cast(ops.logical_not(far), "int32"), axis=-1) > 1
