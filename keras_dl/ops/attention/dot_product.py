"""Dot-product attention over sequences."""

import keras
from keras import ops

from keras_dl.ops.attention.dropout import dropout as drop
from keras_dl.ops.attention.inputs import cleaned, require_dropout, require_shapes
from keras_dl.ops.attention.masks import causal_mask, masked_softmax
from keras_dl.ops.precision import wide


def dot_product_attention(query, key, value, scale=1.0, mask=None, causal=False, dropout=0.0, seed=None):
    """Computes the mean of the values, weighted by the softmax of `scale query . key` over the keys, for each head.

    On TensorFlow, it processes blocks of queries and recomputes the weights in the backward pass, so `[B, H, T, S]` is
    never stored; other backends use the plain formula.

    Args:
        query: float tensor `[B, T, H, D]`.
        key: float tensor `[B, S, H, D]`.
        value: float tensor `[B, S, H, V]`.
        scale: float, or scalar float tensor, which then receives a gradient. Defaults to 1; use `D ** -0.5` for scaled
            dot products.
        mask: bool tensor `[B, S]`, False at padding, or None (default). Values at padding, including NaN, have no
            effect. The result is zero for a query without valid keys.
        causal: bool, whether query `t` attends only to the keys `s <= t + S - T`; see `causal_mask`.
        dropout: float in [0, 1), the fraction of the weights to drop. Defaults to 0.
        seed: int tensor `[2]` as returned by `keras.random.SeedGenerator.next()`; required for dropout.

    Returns:
        float tensor `[B, T, H, V]` of the dtype of the values.

    Raises:
        ValueError: if the shapes do not match, or the dropout is out of range or has no seed. On TensorFlow, also for
            second-order gradients; use `masked_softmax(scaled_dot_score(...))` for these.

    Source: Vaswani et al. 2017, "Attention is all you need", equation 1, https://arxiv.org/abs/1706.03762

    Example:

    >>> import numpy as np
    >>> key = np.array([[[[0.0]], [[9.0]], [[np.inf]]]], "float32")  # the second matches best, the third is padding
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
        def gradients(slope):
            return tf.matmul(slope, key), tf.matmul(slope, query, transpose_a=True)

        return tf.matmul(query, key, transpose_b=True), gradients

    def heads_first(x):
        return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, ops.shape(x)[1], x.shape[3]))

    heads = query.shape[2]
    mask = mask if mask is None else tf.repeat(mask, heads, axis=0)
    query, key, value = (heads_first(x) for x in (query, key, value))
    context = attention_in_blocks(score, query, key, value, [], 1, mask, causal, dropout, seed)
    return tf.transpose(tf.reshape(context, (-1, heads, *ops.shape(context)[1:])), (0, 2, 1, 3))


def _plain(query, key, value, mask, causal, dropout, seed):
    """Computes the plain formula, which stores `[B, H, T, S]`."""
    seen = None if mask is None else mask[:, None, None]
    if causal:
        below = causal_mask(ops.shape(query)[1], ops.shape(key)[1])
        seen = below if seen is None else seen & below
    scores = ops.einsum("bthd,bshd->bhts", query, key)
    weights = masked_softmax(scores, seen)
    if dropout:
        weights = drop(weights, dropout, seed)
    return ops.einsum("bhts,bshv->bthv", weights, value)
