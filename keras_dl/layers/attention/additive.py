"""Attention by an additive score."""

import math
import numbers

import keras
from keras import ops

from keras_dl.layers.attention.base import Attention
from keras_dl.ops.attention import additive_attention, additive_score
from keras_dl.ops.attention.precision import wide


@keras.saving.register_keras_serializable("keras_dl")
class AdditiveAttention(Attention):
    """Attention by `v . tanh(query W_q + key W_k + b)`, of queries and keys of any numbers of features.

    Unlike the layer of Keras by this name it has the projections. With `normalize=True` the vector is `g v / |v|` with
    a learned length g. Masks, heads, causal order and returned weights: see the call arguments.

    `get_weights()` gives `v` (U,), with `normalize` `g` (), with `use_bias` `b` (U,), then `W_q` (Dq, U) and `W_k`
    (Dk, U): the order of `tensorflow_addons.seq2seq.BahdanauAttention`, which has a bias only if it is normalised.

    Args:
        units: int > 0, U.
        normalize: bool, whether the length of `v` is a weight of its own, `sqrt(1 / U)` at first. Defaults to False.
        use_bias: bool. Defaults to True.
        num_heads: int > 0, a divisor of U and Dv. Defaults to 1.
        dropout: float from 0 to below 1, the share of the weights that is dropped in training. Defaults to 0.
        seed: int, of the dropout. Defaults to None, another one each time.
        kernel_initializer: initializer of `W_q`, `W_k` and `v`. Defaults to `"glorot_uniform"`.
        **kwargs: `name`, `dtype`, as for every layer.

    Call arguments:
        query: float tensor `[B, T, Dq]`.
        value: float tensor `[B, S, Dv]`.
        key: float tensor `[B, S, Dk]`. Defaults to the values.
        query_mask: bool tensor `[B, T]`, False at padding; Keras' mask of `query` by default.
        value_mask: bool tensor `[B, S]`, False at padding; Keras' mask of `value` by default.
        use_causal_mask: bool, whether query t sees the keys `s <= t + S - T` only. Defaults to False.
        return_attention_scores: bool, whether the weights are wanted too. Defaults to False: memory then grows with
            T + S and not with T times S.
        training: bool, whether to drop anything.
        key_mask: bool tensor `[B, S]`, False at padding; Keras' mask of `key` by default. Padding is where it is in
            either mask.

    Returns:
        float tensor `[B, T, Dv]`; with `return_attention_scores=True` also the weights, `[B, T, S]`, or
        `[B, H, T, S]` with more than one head.

    Raises:
        ValueError: for shapes that do not fit, heads that do not divide the features, a memory without any step.

    Example:

    >>> import keras
    >>> attention = AdditiveAttention(8)
    >>> query, value = keras.ops.ones((2, 4, 3)), keras.ops.ones((2, 6, 5))
    >>> attention(query, value).shape
    TensorShape([2, 4, 5])
    >>> context, weights = attention(query, value, return_attention_scores=True)
    >>> weights.shape
    TensorShape([2, 4, 6])

    References: Bahdanau et al. 2015, appendix A.1.2, https://arxiv.org/abs/1409.0473; normalised: Salimans and Kingma
    2016, https://arxiv.org/abs/1602.07868
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
        if not isinstance(units, numbers.Integral) or isinstance(units, bool) or units < 1 or units % num_heads:
            expected = f"`units` must be an integer of at least 1 and a multiple of num_heads={num_heads}"
            raise ValueError(f"{expected}. Received: {units!r}")
        self.units = int(units)
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
        """What each head has of the last axis."""
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
