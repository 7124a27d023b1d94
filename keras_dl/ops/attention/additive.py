"""Additive attention over whole sequences."""

import keras
from keras import ops

from keras_dl.ops.attention.dropout import dropout as drop
from keras_dl.ops.attention.inputs import cleaned, require_dropout, require_shapes
from keras_dl.ops.attention.masks import causal_mask, masked_softmax
from keras_dl.ops.attention.scores import additive_score
from keras_dl.ops.precision import wide


def additive_attention(query, key, value, scale, mask=None, causal=False, dropout=0.0, seed=None):
    """Softmax over the keys of `scale . tanh(query + key)`, times the values.

    On TensorFlow block by block of queries, whose weights are computed anew on the way back, so that neither
    `[B, T, S, U]` nor `[B, T, S]` is ever held; on other backends by the formula.

    Args:
        query: float tensor `[B, T, U]`, projected already.
        key: float tensor `[B, S, U]`, projected already.
        value: float tensor `[B, S, V]`.
        scale: float tensor `[U]`.
        mask: bool tensor `[B, S]`, False at padding, whose content, NaN too, is without effect; or None (default).
            A query without any key gets zeros.
        causal: bool, whether query `t` sees the keys `s <= t + S - T` only; see `causal_mask`.
        dropout: float from 0 (default) to below 1, the share of the weights that is dropped.
        seed: int tensor `[2]` as `keras.random.SeedGenerator.next()` gives; needed for dropout.

    Returns:
        float tensor `[B, T, V]` of the values' dtype.

    Raises:
        ValueError: for shapes that do not fit, or a dropout out of range or without seed. On TensorFlow for
            gradients of second order, which `masked_softmax(additive_score(...))` has.

    Source: Bahdanau et al. 2015, "Neural machine translation by jointly learning to align and translate", equations 5
    and 6 and appendix A.1.2, https://arxiv.org/abs/1409.0473

    Example:

    >>> import numpy as np
    >>> key = np.array([[[0.0], [9.0], [0.0]]], "float32")  # the second fits best, the third is padding
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

        def slopes(slope):
            # The slope of tanh is 1 - tanh^2: sums over the keys are matrix products, the largest tensor is touched
            # no more than it must be.
            square, row = activation * activation, slope[:, :, None]
            of_query = tf.reduce_sum(slope, axis=2)[..., None] - tf.matmul(row, square)[:, :, 0]
            of_key = tf.reduce_sum(slope, axis=1)[..., None] - tf.reduce_sum(square * slope[..., None], axis=1)
            of_scale = tf.reduce_sum(tf.matmul(row, activation), axis=[0, 1, 2])
            return scale * of_query, scale * of_key, of_scale

        return tf.tensordot(activation, scale, 1), slopes

    return attention_in_blocks(score, query, key, value, [scale], scale.shape[0], mask, causal, dropout, seed)


def _plain(query, key, value, scale, mask, causal, dropout, seed):
    """The formula, which holds `[B, T, S, U]`."""
    seen = None if mask is None else mask[:, None]
    if causal:
        below = causal_mask(ops.shape(query)[1], ops.shape(key)[1])
        seen = below if seen is None else seen & below
    weights = masked_softmax(additive_score(query, key, scale), seen)
    if dropout:
        weights = drop(weights, dropout, seed)
    return ops.matmul(weights, value)
