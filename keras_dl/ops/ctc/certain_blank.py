"""What padding means in CTC: a blank, for certain."""

import keras
from keras import ops

LOW = -1e30  # the logarithm of zero; finite, because inf - inf is NaN
NOTHING = -1e8  # so far below the best class of a frame is no chance, but what `certain_blank` leaves to the others


def certain_blank(logits, mask, blank_index=0):
    """Makes every masked frame emit the blank with probability one.

    Such a frame adds nothing to any CTC loss and no token to any decoding, so that no lengths have to be carried.

    Args:
        logits: float tensor `[B, T, V]`; masked frames may hold anything, NaN included.
        mask: bool tensor `[B, T]`, False at frames of padding.
        blank_index: int, the class of the blank. Defaults to 0.

    Returns:
        A tensor like `logits`.

    Example:

    >>> logits = keras.ops.ones((1, 2, 3))
    >>> certain_blank(logits, keras.ops.array([[True, False]]))[0, 1].numpy().argmax()
    np.int64(0)
    """
    dtype = keras.backend.standardize_dtype(logits.dtype)
    # Finite, so that no -inf - -inf becomes NaN; half of what float16 can hold, far below any logit in float32.
    low = -3e4 if dtype == "float16" else -1e9
    blank = ops.cast(ops.one_hot(blank_index, ops.shape(logits)[-1], dtype=dtype) * -low + low, dtype)
    return ops.where(ops.expand_dims(mask, -1), logits, blank)
