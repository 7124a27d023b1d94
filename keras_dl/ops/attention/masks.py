"""Which queries may attend to which keys, and the softmax over those."""

from keras import ops

from keras_dl.ops.precision import wide

LOW = -1e30  # a score that nobody attends to; -inf would give NaN where there is no other


def causal_mask(queries, keys):
    """Which keys each query may see if none may see the future: the last query sees all, the one before all but one.

    Query `t` sees the keys `s <= t + keys - queries`, so that a query on keys seen before, as in decoding step by step,
    is the last row of the whole.

    Args:
        queries: int, or int tensor, T.
        keys: int, or int tensor, S.

    Returns:
        bool tensor `[T, S]`.

    Source: Vaswani et al. 2017, "Attention is all you need", section 3.2.3, https://arxiv.org/abs/1706.03762

    Example:

    >>> import keras
    >>> keras.ops.convert_to_numpy(causal_mask(2, 3)).tolist()
    [[True, True, False], [True, True, True]]
    """
    return ops.arange(keys, dtype="int32") <= ops.arange(queries, dtype="int32")[:, None] + (keys - queries)


def masked_softmax(scores, mask=None):
    """Softmax over the last axis, of the places where the mask is True.

    What stands at other places, NaN too, has no effect on weights or gradients. A row without any place is all zeros,
    and so is its gradient.

    Args:
        scores: float tensor `[..., S]`; float16 and bfloat16 are computed in float32.
        mask: bool tensor that broadcasts to `[..., S]`, or None (default) for all places.

    Returns:
        float tensor `[..., S]` of the scores' dtype.

    Source: Bahdanau et al. 2015, "Neural machine translation by jointly learning to align and translate", equation 6,
    https://arxiv.org/abs/1409.0473

    Example:

    >>> import numpy as np
    >>> import keras
    >>> weights = masked_softmax(np.array([[0.0, 0.0, np.nan], [1.0, 2.0, 3.0]]), np.array([[1, 1, 0], [0, 0, 0]]))
    >>> keras.ops.convert_to_numpy(weights).tolist()
    [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    """
    scores = ops.convert_to_tensor(scores)
    dtype = scores.dtype
    scores = ops.cast(scores, wide(dtype))
    if mask is not None:
        mask = ops.cast(mask, "bool")
        scores = ops.where(mask, scores, ops.cast(LOW, scores.dtype))
    peak = ops.max(scores, axis=-1, keepdims=True, initial=LOW)
    weights = ops.exp(scores - ops.stop_gradient(peak))
    if mask is not None:
        weights = ops.where(mask, weights, ops.zeros_like(weights))
    total = ops.sum(weights, axis=-1, keepdims=True)
    return ops.cast(weights / ops.where(total > 0, total, ops.ones_like(total)), dtype)
