"""Attention masks and the masked softmax."""

from keras import ops

from keras_dl.ops.precision import wide

MASKED_SCORE = -1e30  # the score of masked keys; -inf would give NaN if all keys are masked


def causal_mask(queries, keys):
    """Returns the mask of causal attention: the last query attends to all keys, the query before it to all but one.

    Query `t` attends to the keys `s <= t + keys - queries`, so a single query in step-by-step decoding is the last row
    of the whole mask.

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
    """Computes the softmax over the entries of the last axis where the mask is True.

    Other entries, including NaN, have no effect on weights or gradients. In a row that is completely masked, weights
    and gradient are zero.

    Args:
        scores: float tensor `[..., S]`; float16 and bfloat16 are computed in float32.
        mask: bool tensor that broadcasts to `[..., S]`, or None (default) for no mask.

    Returns:
        float tensor `[..., S]` of the dtype of the scores.

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
        scores = ops.where(mask, scores, ops.cast(MASKED_SCORE, scores.dtype))
    peak = ops.max(scores, axis=-1, keepdims=True, initial=MASKED_SCORE)
    weights = ops.exp(scores - ops.stop_gradient(peak))
    if mask is not None:
        weights = ops.where(mask, weights, ops.zeros_like(weights))
    total = ops.sum(weights, axis=-1, keepdims=True)
    return ops.cast(weights / ops.where(total > 0, total, ops.ones_like(total)), dtype)
