"""In what type a loss of labels is computed."""

import keras


def wide_dtype(dtype=None):
    """The type that holds labels and long sums: float32, or float64 where that was asked for.

    Keras brings the labels to the type of the loss, in which float16 has no 2049 and bfloat16 no 257.

    Args:
        dtype: as for every Keras loss; None (default) for `keras.config.floatx()`.

    Returns:
        `"float32"` or `"float64"`.

    Example:

    >>> wide_dtype("bfloat16"), wide_dtype("float64")
    ('float32', 'float64')
    """
    policy = keras.dtype_policies.get(dtype or keras.config.floatx())
    return "float64" if policy.compute_dtype == "float64" else "float32"
