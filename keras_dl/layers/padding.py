"""Removal of the content of padding."""

from keras import ops

from keras_dl.ops.checks import require_shape


def without_padding(x, mask):
    """Replaces padding with zeros, because NaN times 0 is NaN and would spread to results and gradients.

    Args:
        x: float tensor `[B, T, features]`.
        mask: bool tensor `[B, T]`, False at padding, or None.

    Returns:
        float tensor `[B, T, features]`.

    Raises:
        ValueError: if the mask has a different shape.

    Example:

    >>> import numpy as np
    >>> without_padding(np.array([[[1.0], [np.nan]]]), np.array([[True, False]])).numpy().tolist()
    [[[1.0], [0.0]]]
    """
    if mask is None:
        return x
    mask = ops.cast(mask, "bool")
    require_shape("mask", mask.shape, x.shape[:2])
    return ops.where(mask[..., None], x, ops.zeros_like(x))
