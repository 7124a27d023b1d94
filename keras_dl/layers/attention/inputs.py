"""Checks of what layers of attention are given, and padding made harmless."""

import inspect
import numbers

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


def require_attention(attention):
    """Refuses what is no layer of attention of ours: a name, a class, a layer of Keras.

    Args:
        attention: what was given as a layer of attention.

    Raises:
        ValueError: with what was received.

    Example:

    >>> require_attention("additive")
    Traceback (most recent call last):
    ...
    ValueError: `attention` must be a layer of attention of keras_dl.layers, such as AdditiveAttention(8). Received: 'additive'
    """  # noqa: E501
    known = all(hasattr(attention, name) for name in ("project_key", "step", "initial_alignment"))
    if not known or inspect.isclass(attention):
        received = f"the class {attention.__name__}" if inspect.isclass(attention) else repr(attention)
        expected = "`attention` must be a layer of attention of keras_dl.layers, such as AdditiveAttention(8)"
        raise ValueError(f"{expected}. Received: {received}")


def require_count(name, value):
    """Refuses what is no number of things.

    Args:
        name: str, what it is called.
        value: what was given.

    Raises:
        ValueError: with what was received.

    Example:

    >>> require_count("num_heads", True)
    Traceback (most recent call last):
    ...
    ValueError: `num_heads` must be an integer of at least 1. Received: True
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"`{name}` must be an integer of at least 1. Received: {value!r}")


def require_dropout(dropout):
    """Refuses what is no rate of dropout.

    Args:
        dropout: what was given.

    Raises:
        ValueError: with what was received.

    Example:

    >>> require_dropout("x")
    Traceback (most recent call last):
    ...
    ValueError: `dropout` must be from 0 to below 1. Received: 'x'
    """
    if not isinstance(dropout, numbers.Real) or not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be from 0 to below 1. Received: {dropout!r}")


def require_shapes(query, value, key=None, query_mask=None, value_mask=None, key_mask=None):
    """Refuses tensors that no attention is possible with.

    Args:
        query, value, key, query_mask, value_mask, key_mask: shapes, or None for what is not given.

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
        ("key_mask", key_mask, "[B, S]"),
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
        ("key_mask", key_mask, "value", value),
        ("query_mask", query_mask, "query", query),
    ):
        if shape is not None and _differ(shape[1], whole[1]):
            raise ValueError(
                f"Expected `{name}` and `{other}` of the same length. Received: {tuple(shape)} and {tuple(whole)}"
            )
        if shape is not None and _differ(shape[0], whole[0]):
            raise ValueError(
                f"Expected `{name}` and `{other}` of as many rows. Received: {tuple(shape)} and {tuple(whole)}"
            )
    if _differ(query[0], value[0]):
        raise ValueError(f"Expected `query` and `value` of as many rows. Received: {tuple(query)} and {tuple(value)}")


def _differ(one, other):
    return None not in (one, other) and one != other
