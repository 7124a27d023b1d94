"""Additive attention over sequences."""

import keras
from keras import ops

from keras_dl.ops.attention.dropout import dropout as drop
from keras_dl.ops.attention.inputs import cleaned, require_dropout, require_shapes
from keras_dl.ops.attention.masks import causal_mask, masked_softmax
from keras_dl.ops.attention.scores import additive_score
from keras_dl.ops.precision import wide


def additive_attention(query, key, value, scale, mask=None, causal=False, dropout=0.0, seed=None):
    """Computes the mean of the values, weighted by the softmax of `scale . tanh(query + key)` over the keys.

    On TensorFlow, it processes blocks of queries and recomputes the weights in the backward pass, so neither
    `[B, T, S, U]` nor `[B, T, S]` is ever stored; other backends use the plain formula.

    Args:
        query: float tensor `[B, T, U]`, already projected.
        key: float tensor `[B, S, U]`, already projected.
        value: float tensor `[B, S, V]`.
        scale: float tensor `[U]`.
        mask: bool tensor `[B, S]`, False at padding, or None (default). Values at padding, including NaN, have no
            effect. The result is zero for a query without valid keys.
        causal: bool, whether query `t` attends only to the keys `s <= t + S - T`; see `causal_mask`.
        dropout: float in [0, 1), the fraction of the weights to drop. Defaults to 0.
        seed: int tensor `[2]` as returned by `keras.random.SeedGenerator.next()`; required for dropout.

    Returns:
        float tensor `[B, T, V]` of the dtype of the values.

    Raises:
        ValueError: if the shapes do not match, or the dropout is out of range or has no seed. On TensorFlow, also for
            second-order gradients; use `masked_softmax(additive_score(...))` for these.

    Source: Bahdanau et al. 2015, "Neural machine translation by jointly learning to align and translate", equations 5
    and 6 and appendix A.1.2, https://arxiv.org/abs/1409.0473

    Example:

    >>> import numpy as np
    >>> key = np.array([[[0.0], [9.0], [0.0]]], "float32")  # the second matches best, the third is padding
    >>> value = np.array([[[1.0], [2.0], [np.nan]]], "float32")
    >>> mask = np.array([[True, True, False]])
    >>> context = additive_attention(np.zeros((1, 1, 1), "float32"), key, value, np.array([8.0], "float32"), mask)
    >>> round(float(context[0, 0, 0]), 3)
    2.0
    """
    query, key, value, scale = (ops.convert_to_tensor(x) for x in (query, key, value, scale))
    require_shapes(query, key, value, mask, rank=3)
    require_dropout(dropout, seed)
    if len(scale.shape) != 1 or scale.shape[0] != query.shape[-1]:
        raise ValueError(f"`scale` must be of shape [{query.shape[-1]}]. Received: {list(scale.shape)}")
    key, value, mask = cleaned(key, value, mask)
    dtype, exact = value.dtype, wide(value.dtype)
    query, key, value, scale = (ops.cast(x, exact) for x in (query, key, value, scale))
    attend = _in_blocks if keras.backend.backend() == "tensorflow" else _plain
    return ops.cast(attend(query, key, value, scale, mask, causal, dropout, seed), dtype)


def _in_blocks(query, key, value, scale, mask, causal, dropout, seed):
    import tensorflow as tf

    from keras_dl.ops.attention.blocks import attention_in_blocks

    def score(query, key, scale):
        activation = tf.tanh(query[:, :, None] + key[:, None])

        def gradients(slope):
            # With the derivative 1 - tanh^2, sums over the keys are matrix products and the largest tensor is read as
            # few times as possible.
            square, row = activation * activation, slope[:, :, None]
            of_query = tf.reduce_sum(slope, axis=2)[..., None] - tf.matmul(row, square)[:, :, 0]
            of_key = tf.reduce_sum(slope, axis=1)[..., None] - tf.reduce_sum(square * slope[..., None], axis=1)
            of_scale = tf.reduce_sum(tf.matmul(row, activation), axis=[0, 1, 2])
            return scale * of_query, scale * of_key, of_scale

        return tf.tensordot(activation, scale, 1), gradients

    return attention_in_blocks(score, query, key, value, [scale], scale.shape[0], mask, causal, dropout, seed)


def _plain(query, key, value, scale, mask, causal, dropout, seed):
    """Computes the plain formula, which stores `[B, T, S, U]`."""
    seen = None if mask is None else mask[:, None]
    if causal:
        below = causal_mask(ops.shape(query)[1], ops.shape(key)[1])
        seen = below if seen is None else seen & below
    weights = masked_softmax(additive_score(query, key, scale), seen)
    if dropout:
        weights = drop(weights, dropout, seed)
    return ops.matmul(weights, value)
