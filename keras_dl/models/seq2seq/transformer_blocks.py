"""Building blocks of transformers: pre-norm attention, pre-norm feed-forward, and sinusoidal positions."""

import keras
import numpy as np
from keras import ops

from keras_dl.layers import ScaledDotProductAttention


def sinusoidal_positions(length, units, start=0, dtype="float32"):
    """Returns sinusoidal position encodings.

    `p[t, 2 i] = sin(t / 10000^(2 i / units))`, `p[t, 2 i + 1] = cos(t / 10000^(2 i / units))`.

    Args:
        length: int, or int tensor `[]`, the number of positions.
        units: int, even.
        start: int, or int tensor `[]`, the first position. Defaults to 0.
        dtype: str. Defaults to `"float32"`.

    Returns:
        float tensor `[length, units]`.

    Example:

    >>> ops.convert_to_numpy(sinusoidal_positions(2, 4)).round(2)
    array([[0.  , 1.  , 0.  , 1.  ],
           [0.84, 0.54, 0.01, 1.  ]], dtype=float32)

    Reference: Vaswani et al. 2017, section 3.5, https://arxiv.org/abs/1706.03762
    """
    rates = np.exp(-np.log(10000.0) * np.arange(0, units, 2) / units).astype(dtype)
    # Without the dtype, TensorFlow would count in keras.config.floatx() and could not add an int tensor.
    angles = ops.cast(ops.arange(length, dtype="int32") + start, dtype)[:, None] * rates
    return ops.reshape(ops.stack([ops.sin(angles), ops.cos(angles)], axis=-1), (-1, units))


class AttentionBlock(keras.layers.Layer):
    """`x + W_o attention(W_q norm(x), W_k memory, W_v memory)`, for whole sequences and for single steps.

    Args:
        units: int, features of `x` and of the result.
        heads: int, a divisor of `units`.
        dropout: float, the dropout rate before the residual addition.

    Example:

    >>> block, x = AttentionBlock(units=8, heads=2), ops.ones((1, 5, 8))
    >>> block.build(x.shape)
    >>> block(x, *block.keys_values(x), use_causal_mask=True).shape
    TensorShape([1, 5, 8])

    Reference: Xiong et al. 2020, "On layer normalization in the transformer architecture" (pre-norm),
    https://arxiv.org/abs/2002.04745
    """

    def __init__(self, units, heads, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, dtype=dtype, name="norm")
        self.query, self.key, self.value, self.output_projection = (
            keras.layers.Dense(units, dtype=dtype, name=name) for name in ("query", "key", "value", "output")
        )
        self.attention = ScaledDotProductAttention(num_heads=heads, dtype=dtype, name="attention")
        self.drop = keras.layers.Dropout(dropout, dtype=dtype)
        self.units = units

    def build(self, x_shape, keys_shape=None, values_shape=None):
        for layer in (self.norm, self.query, self.key, self.value, self.output_projection):
            layer.build((None, None, self.units))

    def normalized(self, x):
        """Normalizes `x`: the input of the queries, and of the keys and values in self-attention."""
        return self.norm(x)

    def keys_values(self, memory):
        """Projects a memory `[B, S, units]` to `(keys, values)`, each of the same shape."""
        return self.key(memory), self.value(memory)

    def call(self, x, keys, values, value_mask=None, use_causal_mask=False, training=None):
        attended = self.attention(
            self.query(self.norm(x)), values, key=keys, value_mask=value_mask, use_causal_mask=use_causal_mask
        )
        return x + self.drop(self.output_projection(attended), training=training)

    def step(self, x, keys, values, value_mask=None):
        """Attends with one query per row, `[B, units]`.

        Returns:
            `(result [B, units], weights [B, S])`; the weights are the mean over the heads.
        """
        attended, weights = self.attention.step(self.query(self.norm(x)), keys, values, value_mask)
        return x + self.output_projection(attended), weights

    def compute_output_spec(self, x, keys, values, value_mask=None, use_causal_mask=False, training=None):
        return keras.KerasTensor(x.shape, dtype=self.compute_dtype)


class FeedForwardBlock(keras.layers.Layer):
    """`x + W_2 relu(W_1 norm(x))`.

    Args:
        units: int, features of `x` and of the result.
        hidden: int, hidden units.
        dropout: float, the dropout rate before the residual addition.

    Example:

    >>> FeedForwardBlock(units=8, hidden=16)(ops.ones((1, 5, 8))).shape
    TensorShape([1, 5, 8])

    Reference: Vaswani et al. 2017, section 3.3, https://arxiv.org/abs/1706.03762
    """

    def __init__(self, units, hidden, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        dtype = self.dtype_policy
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, dtype=dtype, name="norm")
        self.expand = keras.layers.Dense(hidden, activation="relu", dtype=dtype, name="expand")
        self.contract = keras.layers.Dense(units, dtype=dtype, name="contract")
        self.drop = keras.layers.Dropout(dropout, dtype=dtype)
        self.units, self.hidden = units, hidden

    def build(self, x_shape):
        self.norm.build((None, self.units))
        self.expand.build((None, self.units))
        self.contract.build((None, self.hidden))

    def call(self, x, training=None):
        return x + self.drop(self.contract(self.expand(self.norm(x))), training=training)
