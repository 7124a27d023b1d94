"""Removal of the content of padding."""

from keras import ops


def without_padding(x, mask):
    """Replaces padding with zeros, because NaN times 0 is NaN and would spread to results and gradients.

    Args:
        x: float tensor `[B, T, features]`.
        mask: bool tensor `[B, T]`, False at padding, or None.

    Returns:
        float tensor `[B, T, features]`.

    Example:

    >>> import numpy as np
    >>> without_padding(np.array([[[1.0], [np.nan]]]), np.array([[True, False]])).numpy().tolist()
    [[[1.0], [0.0]]]
    """
    return x if mask is None else ops.where(ops.cast(mask, "bool")[..., None], x, ops.zeros_like(x))
