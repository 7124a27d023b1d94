"""Checks of what layers of attention are given, and padding made harmless."""

from keras import ops


def without_padding(x, mask):
    """Zeros in the place of padding: NaN there would reach gradients, and results as NaN times 0.

    Args:
        x: float tensor `[B, T, features]`.
        mask: bool tensor `[B, T]`, or None.

    Returns:
        float tensor `[B, T, features]`.

    Example:

    >>> import numpy as np
    >>> without_padding(np.array([[[1.0], [np.nan]]]), np.array([[True, False]])).numpy().tolist()
    [[[1.0], [0.0]]]
    """
    return x if mask is None else ops.where(ops.cast(mask, "bool")[..., None], x, ops.zeros_like(x))


def require_shapes(query, value, key=None, query_mask=None, value_mask=None):
    """Refuses tensors that no attention is possible with.

    Args:
        query, value, key, query_mask, value_mask: shapes, or None for what is not given.

    Raises:
        ValueError: with what was expected and what was received.

    Example:

    >>> require_shapes((2, 5, 3), (2, 0, 3))
    Traceback (most recent call last):
    ...
    ValueError: Expected a memory of at least one step to attend to. Received: `value` of shape (2, 0, 3)
    """
    for name, shape, axes in (
        ("query", query, "[B, T, features]"),
        ("value", value, "[B, S, features]"),
        ("key", key, "[B, S, features]"),
        ("query_mask", query_mask, "[B, T]"),
        ("value_mask", value_mask, "[B, S]"),
    ):
        if shape is not None and len(shape) != axes.count(",") + 1:
            raise ValueError(f"Expected `{name}` of shape {axes}. Received: {tuple(shape)}")
    if value[1] == 0:
        raise ValueError(
            f"Expected a memory of at least one step to attend to. Received: `value` of shape {tuple(value)}"
        )
    for name, shape, other, whole in (
        ("key", key, "value", value),
        ("value_mask", value_mask, "value", value),
        ("query_mask", query_mask, "query", query),
    ):
        if shape is not None and None not in (shape[1], whole[1]) and shape[1] != whole[1]:
            raise ValueError(
                f"Expected `{name}` and `{other}` of the same length. Received: {tuple(shape)} and {tuple(whole)}"
            )
