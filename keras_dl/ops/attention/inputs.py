"""Checks of the inputs of attention, and removal of padding."""

from keras import ops


def require_shapes(query, key, value, mask, rank):
    """Checks the shapes of query `[B, T, (H,) D]`, key `[B, S, (H,) D]`, value `[B, S, (H,) V]` and mask `[B, S]`.

    Args:
        query, key, value: float tensors.
        mask: tensor, or None.
        rank: int, the number of axes of the first three.

    Raises:
        ValueError: if the shapes do not match.

    Example:

    >>> import numpy as np
    >>> require_shapes(np.zeros((1, 5, 2)), np.zeros((1, 3, 2)), np.zeros((1, 4, 7)), None, rank=3)
    Traceback (most recent call last):
    ...
    ValueError: `query` [B, T, D], `key` [B, S, D], `value` [B, S, V] and `mask` [B, S] or None must match. Received:
        [1, 5, 2], [1, 3, 2], [1, 4, 7], None
    """  # noqa: E501
    query, key, value = (list(x.shape) for x in (query, key, value))
    mask = None if mask is None else list(mask.shape)
    fit = all(len(shape) == rank for shape in (query, key, value)) and (mask is None or len(mask) == 2)
    if fit:
        batches = [shape[0] for shape in (query, key, value, mask) if shape]
        sources = [shape[1] for shape in (key, value, mask) if shape]
        heads = [shape[2:-1] for shape in (query, key, value)]
        features = [query[-1], key[-1]]
        fit = all(_agree(sizes) for sizes in (batches, sources, features, *zip(*heads, strict=True)))
    if not fit:
        heads = "H, " if rank == 4 else ""
        expected = f"`query` [B, T, {heads}D], `key` [B, S, {heads}D], `value` [B, S, {heads}V] and `mask` [B, S]"
        received = f"{query}, {key}, {value}, {mask}"
        raise ValueError(f"{expected} or None must match. Received: {received}")


def require_dropout(dropout, seed):
    """Checks that a dropout rate is valid and has a seed.

    Args:
        dropout: float, the dropout rate.
        seed: int tensor `[2]`, or None without dropout.

    Raises:
        ValueError: if the rate is not in [0, 1), or is not 0 and there is no seed.

    Example:

    >>> require_dropout(0.1, None)
    Traceback (most recent call last):
    ...
    ValueError: `dropout` requires a `seed`, an int tensor [2]. Received: dropout 0.1, seed None
    """
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be in [0, 1). Received: {dropout}")
    if dropout and seed is None:
        raise ValueError(f"`dropout` requires a `seed`, an int tensor [2]. Received: dropout {dropout}, seed None")


def cleaned(key, value, mask):
    """Replaces padding with zeros; NaN times a weight of 0 would be NaN.

    Args:
        key: float tensor `[B, S, ...]`.
        value: float tensor `[B, S, ...]`.
        mask: tensor `[B, S]`, or None.

    Returns:
        `(key, value, mask)`, the mask as bool.

    Example:

    >>> import numpy as np
    >>> key, value, mask = cleaned(np.array([[[1.0], [np.inf]]]), np.array([[[2.0], [np.nan]]]), np.array([[1, 0]]))
    >>> key[0, :, 0].numpy().tolist(), value[0, :, 0].numpy().tolist()
    ([1.0, 0.0], [2.0, 0.0])
    """
    if mask is None:
        return key, value, None
    mask = ops.cast(mask, "bool")
    valid = ops.expand_dims(mask, tuple(range(2, len(key.shape))))
    return *(ops.where(valid, x, ops.zeros_like(x)) for x in (key, value)), mask


def _agree(sizes):
    return len({size for size in sizes if size is not None}) <= 1
