"""Attention by dot products over whole sequences."""

import keras
from keras import ops

from keras_dl.ops.attention.dropout import dropout as drop
from keras_dl.ops.attention.inputs import cleaned, require_dropout, require_shapes
from keras_dl.ops.attention.masks import causal_mask, masked_softmax
from keras_dl.ops.precision import wide


def dot_product_attention(query, key, value, scale=1.0, mask=None, causal=False, dropout=0.0, seed=None):
    """Softmax over the keys of `scale query . key`, times the values, for each head.

    On TensorFlow block by block of queries, whose weights are computed anew on the way back, so that `[B, H, T, S]` is
    never held; on other backends by the formula.

    Args:
        query: float tensor `[B, T, H, D]`.
        key: float tensor `[B, S, H, D]`.
        value: float tensor `[B, S, H, V]`.
        scale: float, or float tensor without axes, which then has a gradient too. Defaults to 1; `D ** -0.5` for scaled
            dot products.
        mask: bool tensor `[B, S]`, False at padding, whose content, NaN too, is without effect; or None (default).
            A query without any key gets zeros.
        causal: bool, whether query `t` sees the keys `s <= t + S - T` only; see `causal_mask`.
        dropout: float from 0 (default) to below 1, the share of the weights that is dropped.
        seed: int tensor `[2]` as `keras.random.SeedGenerator.next()` gives; needed for dropout.

    Returns:
        float tensor `[B, T, H, V]` of the values' dtype.

    Raises:
        ValueError: for shapes that do not fit, or a dropout out of range or without seed. On TensorFlow for
            gradients of second order, which `masked_softmax(scaled_dot_score(...))` has.

    Source: Vaswani et al. 2017, "Attention is all you need", equation 1, https://arxiv.org/abs/1706.03762

    Example:

    >>> import numpy as np
    >>> key = np.array([[[[0.0]], [[9.0]], [[np.inf]]]], "float32")  # the second fits best, the third is padding
    >>> value = np.array([[[[1.0]], [[2.0]], [[np.nan]]]], "float32")
    >>> context = dot_product_attention(np.ones((1, 1, 1, 1), "float32"), key, value, mask=np.array([[1, 1, 0]]))
    >>> round(float(context[0, 0, 0, 0]), 3)
    2.0
    """
    query, key, value = (ops.convert_to_tensor(x) for x in (query, key, value))
    require_shapes(query, key, value, mask, rank=4)
    require_dropout(dropout, seed)
    key, value, mask = cleaned(key, value, mask)
    dtype, exact = value.dtype, wide(value.dtype)
    query, key, value, scale = (ops.cast(x, exact) for x in (query, key, value, scale))
    attend = _in_blocks if keras.backend.backend() == "tensorflow" else _plain
    return ops.cast(attend(query * scale, key, value, mask, causal, dropout, seed), dtype)


def _in_blocks(query, key, value, mask, causal, dropout, seed):
    import tensorflow as tf

    from keras_dl.ops.attention.blocks import attention_in_blocks

    def score(query, key):
        def slopes(slope):
            return tf.matmul(slope, key), tf.matmul(slope, query, transpose_a=True)

        return tf.matmul(query, key, transpose_b=True), slopes

    def heads_first(x):
        return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, ops.shape(x)[1], x.shape[3]))

    heads = query.shape[2]
    mask = mask if mask is None else tf.repeat(mask, heads, axis=0)
    query, key, value = (heads_first(x) for x in (query, key, value))
    context = attention_in_blocks(score, query, key, value, [], 1, mask, causal, dropout, seed)
    return tf.transpose(tf.reshape(context, (-1, heads, *ops.shape(context)[1:])), (0, 2, 1, 3))


def _plain(query, key, value, mask, causal, dropout, seed):
    """The formula, which holds `[B, H, T, S]`."""
    seen = None if mask is None else mask[:, None, None]
    if causal:
        below = causal_mask(ops.shape(query)[1], ops.shape(key)[1])
        seen = below if seen is None else seen & below
    scores = ops.einsum("bthd,bshd->bhts", query, key)
    weights = masked_softmax(scores, seen)
    if dropout:
        weights = drop(weights, dropout, seed)
    return ops.einsum("bhts,bshv->bthv", weights, value)
