"""Dtypes in which half-precision models compute sums and losses."""

import keras


def wide(dtype):
    """Returns the dtype in which sums are computed: float32 for half precision, otherwise `dtype` itself.

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


def loss_dtype(dtype=None):
    """Returns the dtype in which a loss over class indices is computed: float32, or float64 if requested.

    Keras casts the labels to the dtype of the loss. float16 cannot represent 2049, and bfloat16 cannot represent 257.

    Args:
        dtype: as for every Keras loss; None (default) for `keras.config.floatx()`.

    Returns:
        `"float32"` or `"float64"`.

    Example:

    >>> loss_dtype("bfloat16"), loss_dtype("float64")
    ('float32', 'float64')
    """
    policy = keras.dtype_policies.get(dtype or keras.config.floatx())
    return "float64" if policy.compute_dtype == "float64" else "float32"
