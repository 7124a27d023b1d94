"""Attention with an additive score."""

import math

import keras
from keras import ops

from keras_dl.layers.attention.base import Attention
from keras_dl.ops.attention import additive_attention, additive_score
from keras_dl.ops.checks import require_count
from keras_dl.ops.precision import wide


@keras.saving.register_keras_serializable("keras_dl")
class AdditiveAttention(Attention):
    """Attention with the score `v . tanh(query W_q + key W_k + b)`.

    Queries and keys may differ in their number of features. Unlike `keras.layers.AdditiveAttention`, it includes the
    projections. As in Keras, the inputs may also be a list, `[query, value]` or `[query, value, key]`, and `mask` a
    list of their masks. With `normalize=True`, the vector is `g v / |v|` with a learned length g.

    `get_weights()` returns `v` (U,), then `g` () if `normalize` is True, `b` (U,) if `use_bias` is True, `W_q` (Dq, U)
    and `W_k` (Dk, U): the order of `tensorflow_addons.seq2seq.BahdanauAttention`, which has a bias only if it is
    normalized.

    Args:
        units: int, U, a multiple of `num_heads`.
        normalize: bool, whether to learn the length of `v` separately, starting at `sqrt(1 / U)`. Defaults to False.
        use_bias: bool, whether to add a bias. Defaults to True.
        num_heads: int, number of heads, a divisor of U and Dv. Defaults to 1.
        dropout: float in [0, 1), fraction of the attention weights to drop during training. Defaults to 0.
        seed: int, seed of the dropout. Defaults to None, a random seed.
        kernel_initializer: initializer for `W_q`, `W_k` and `v`. Defaults to `"glorot_uniform"`.
        **kwargs: base layer keyword arguments, such as `name` and `dtype`.

    Call arguments:
        query: float tensor `[B, T, Dq]`.
        value: float tensor `[B, S, Dv]`.
        key: float tensor `[B, S, Dk]`. Defaults to `value`.
        query_mask: bool tensor `[B, T]`, False at padding. Defaults to the Keras mask of `query`.
        value_mask: bool tensor `[B, S]`, False at padding. Defaults to the Keras mask of `value`.
        use_causal_mask: bool, whether query t attends only to keys `s <= t + S - T`; the last query then attends to all
            keys. Defaults to False.
        return_attention_scores: bool, whether to also return the attention weights. Memory then grows with T times S
            instead of T + S. Defaults to False.
        training: bool, whether to apply dropout.
        key_mask: bool tensor `[B, S]`, False at padding. Defaults to the Keras mask of `key`. A step is padding if
            it is False in either mask.

    Returns:
        float tensor `[B, T, Dv]`; with `return_attention_scores=True`, also the weights, `[B, T, S]`, or `[B, H, T, S]`
        with more than one head.

    Raises:
        ValueError: if shapes do not match, `num_heads` does not divide the features, or the memory is empty.

    Example:

    >>> import keras
    >>> attention = AdditiveAttention(8)
    >>> query, value = keras.ops.ones((2, 4, 3)), keras.ops.ones((2, 6, 5))
    >>> attention(query, value).shape
    TensorShape([2, 4, 5])
    >>> context, weights = attention(query, value, return_attention_scores=True)
    >>> weights.shape
    TensorShape([2, 4, 6])

    References: Bahdanau et al. 2015, appendix A.1.2, https://arxiv.org/abs/1409.0473; normalization: Salimans and
    Kingma 2016, https://arxiv.org/abs/1602.07868
    """

    def __init__(
        self,
        units,
        normalize=False,
        use_bias=True,
        num_heads=1,
        dropout=0.0,
        seed=None,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(num_heads, dropout, seed, **kwargs)
        self.units = require_count("units", units)
        if units % num_heads:
            raise ValueError(f"`units` must be a multiple of num_heads={num_heads}. Received: {units}")
        self.normalize = normalize
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, query_shape, value_shape, key_shape=None):
        super().build(query_shape, value_shape, key_shape)
        length = keras.initializers.Constant(math.sqrt(1 / self.units))
        self.scale = self.add_weight((self.units,), self.kernel_initializer, name="scale")
        self.gain = self.add_weight((), length, name="gain") if self.normalize else None
        self.bias = self.add_weight((self.units,), "zeros", name="bias") if self.use_bias else None
        features = query_shape[-1], (key_shape or value_shape)[-1]
        self.query_kernel, self.key_kernel = (
            self.add_weight((each, self.units), self.kernel_initializer, name=f"{name}_kernel")
            for name, each in zip(("query", "key"), features, strict=True)
        )

    def project_query(self, query):
        projected = ops.matmul(super().project_query(query), ops.cast(self.query_kernel, self.compute_dtype))
        return projected if self.bias is None else projected + ops.cast(self.bias, self.compute_dtype)

    def project_key(self, key):
        return ops.matmul(super().project_key(key), ops.cast(self.key_kernel, self.compute_dtype))

    def score(self, query, keys):
        parts = zip(self._parts(query), self._parts(keys), self._parts(self._vector()), strict=True)
        return ops.stack([additive_score(*part) for part in parts], axis=1)

    def attend(self, query, keys, value, **options):
        parts = zip(*(self._parts(x) for x in (query, keys, value, self._vector())), strict=True)
        return ops.concatenate([additive_attention(*part, **options) for part in parts], axis=-1)

    def _parts(self, x):
        """Splits the last axis into one part per head."""
        return [x] if self.num_heads == 1 else ops.split(x, self.num_heads, axis=-1)

    def _vector(self):
        scale = ops.cast(self.scale, wide(self.compute_dtype))
        if self.gain is None:
            return scale
        return scale * ops.cast(self.gain, scale.dtype) * ops.rsqrt(ops.sum(scale * scale))

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "normalize": self.normalize,
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
