"""Checks of the inputs of attention layers."""

import inspect

from keras_dl.ops.checks import require_rank


def require_attention(attention):
    """Raises an error unless an argument is an attention layer of this package.

    Args:
        attention: value of the argument.

    Raises:
        ValueError: if it is anything else, such as a name, a class or a Keras layer.

    Example:

    >>> require_attention("additive")
    Traceback (most recent call last):
    ...
    ValueError: `attention` must be an attention layer of keras_dl.layers, such as AdditiveAttention(8). Received: 'additive'
    """  # noqa: E501
    known = all(hasattr(attention, name) for name in ("project_key", "step", "initial_alignment"))
    if not known or inspect.isclass(attention):
        received = f"the class {attention.__name__}" if inspect.isclass(attention) else repr(attention)
        expected = "`attention` must be an attention layer of keras_dl.layers, such as AdditiveAttention(8)"
        raise ValueError(f"{expected}. Received: {received}")


def split_list(inputs, masks=None):
    """Splits inputs in the form of `keras.layers.Attention`.

    Args:
        inputs: list `[query, value]` or `[query, value, key]`.
        masks: list of their masks, which may be shorter or contain None; or None (default).

    Returns:
        `(inputs, masks)`: a list, and a dict of `query_mask`, `value_mask` and `key_mask`, without those that are None.

    Raises:
        ValueError: if either is not such a list.

    Example:

    >>> split_list(["query", "value"], [None, "mask"])
    (['query', 'value'], {'value_mask': 'mask'})
    """
    masks = [] if masks is None else masks
    if len(inputs) not in (2, 3):
        raise ValueError(f"Expected [query, value] or [query, value, key]. Received: a list of {len(inputs)} inputs")
    if not isinstance(masks, list | tuple) or len(masks) > len(inputs):
        received = f"{len(masks)} masks" if isinstance(masks, list | tuple) else repr(masks)
        raise ValueError(f"Expected `mask` to be a list with one mask, or None, for each input. Received: {received}")
    names = "query_mask", "value_mask", "key_mask"
    return list(inputs), {name: mask for name, mask in zip(names, masks, strict=False) if mask is not None}


def require_shapes(query, value, key=None, query_mask=None, value_mask=None, key_mask=None):
    """Raises an error if the shapes of the inputs of attention do not match.

    Args:
        query, value, key, query_mask, value_mask, key_mask: shapes, or None for missing inputs.

    Raises:
        ValueError: if a rank, a length or the batch size is wrong, or the memory is empty.

    Example:

    >>> require_shapes((2, 5, 3), (2, 0, 3))
    Traceback (most recent call last):
    ...
    ValueError: Expected a memory with at least one step to attend to. Received: `value` of shape (2, 0, 3)
    """
    for name, shape, axes in (
        ("query", query, "[B, T, features]"),
        ("value", value, "[B, S, features]"),
        ("key", key, "[B, S, features]"),
        ("query_mask", query_mask, "[B, T]"),
        ("value_mask", value_mask, "[B, S]"),
        ("key_mask", key_mask, "[B, S]"),
    ):
        require_rank(name, shape, axes)
    if value[1] == 0:
        raise ValueError(
            f"Expected a memory with at least one step to attend to. Received: `value` of shape {tuple(value)}"
        )
    pairs = [
        ("key", key, "value", value),
        ("value_mask", value_mask, "value", value),
        ("key_mask", key_mask, "value", value),
        ("query_mask", query_mask, "query", query),
    ]
    for what, axis, some in (("length", 1, pairs), ("batch size", 0, [*pairs, ("query", query, "value", value)])):
        for name, shape, other, whole in some:
            if shape is not None and None not in (shape[axis], whole[axis]) and shape[axis] != whole[axis]:
                expected = f"Expected `{name}` and `{other}` of the same {what}"
                raise ValueError(f"{expected}. Received: {tuple(shape)} and {tuple(whole)}")
