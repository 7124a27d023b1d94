"""The dtype in which sums are made."""

import keras


def wide(dtype):
    """float32 for float16 and bfloat16, any other dtype itself.

    Args:
        dtype: the dtype of a tensor.

    Returns:
        str.

    Example:

    >>> wide("bfloat16"), wide("float64")
    ('float32', 'float64')
    """
    dtype = keras.backend.standardize_dtype(dtype)
    return "float32" if dtype in ("float16", "bfloat16") else dtype
