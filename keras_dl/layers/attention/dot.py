"""Attention with dot products: plain, scaled, and with a matrix between query and key."""

import keras
from keras import ops

from keras_dl.layers.attention.base import Attention
from keras_dl.ops.attention import dot_product_attention, dot_score


class DotProduct(Attention):
    """Base class of layers whose score is the dot product of projected queries and keys.

    Example:

    >>> issubclass(ScaledDotProductAttention, DotProduct)
    True
    """

    def score(self, query, keys):
        return dot_score(self.split_heads(query), self.split_heads(keys))

    def attend(self, query, keys, value, **options):
        context = dot_product_attention(*(self.divided(x) for x in (query, keys, value)), **options)
        return ops.reshape(context, (*ops.shape(context)[:2], value.shape[-1]))


@keras.saving.register_keras_serializable("keras_dl")
class DotAttention(DotProduct):
    """Attention with the score `query . key`; queries and keys have the same number of features.

    The call arguments are those of `AdditiveAttention`.

    Args:
        use_scale: bool, whether to multiply the score by a learned number g, the only weight, starting at 1. Defaults
            to False.
        num_heads: int, number of heads, a divisor of the features of query and value. Defaults to 1.
        dropout: float in [0, 1), fraction of the attention weights to drop during training. Defaults to 0.
        seed: int, seed of the dropout. Defaults to None, a random seed.
        **kwargs: base layer keyword arguments, such as `name` and `dtype`.

    Raises:
        ValueError: if shapes do not match, `num_heads` does not divide the features, or the memory is empty.

    Example:

    >>> import numpy as np
    >>> keys = np.array([[[9.0, 0.0], [0.0, 9.0]]])
    >>> context, weights = DotAttention()(np.array([[[1.0, 0.0]]]), keys, return_attention_scores=True)
    >>> weights.numpy().round(3)
    array([[[1., 0.]]], dtype=float32)

    Reference: Luong et al. 2015, equation 8, https://arxiv.org/abs/1508.04025
    """

    def __init__(self, use_scale=False, num_heads=1, dropout=0.0, seed=None, **kwargs):
        super().__init__(num_heads, dropout, seed, **kwargs)
        self.use_scale = use_scale

    def build(self, query_shape, value_shape, key_shape=None):
        super().build(query_shape, value_shape, key_shape)
        require_equal_features(query_shape, key_shape or value_shape)
        self._require_heads("query", query_shape[-1])
        self.scale = self.add_weight((), "ones", name="scale") if self.use_scale else None

    def project_query(self, query):
        query = super().project_query(query)
        return query if self.scale is None else query * ops.cast(self.scale, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "use_scale": self.use_scale}


@keras.saving.register_keras_serializable("keras_dl")
class ScaledDotProductAttention(DotProduct):
    """Attention with the score `query . key / sqrt(d)`, where d is the number of features per head, as in Transformers.

    The layer has no weights; for multi-head attention with projections, see `keras.layers.MultiHeadAttention`. The call
    arguments are those of `AdditiveAttention`.

    Args:
        num_heads: int, number of heads, a divisor of the features of query and value. Defaults to 1.
        dropout: float in [0, 1), fraction of the attention weights to drop during training. Defaults to 0.
        seed: int, seed of the dropout. Defaults to None, a random seed.
        **kwargs: base layer keyword arguments, such as `name` and `dtype`.

    Raises:
        ValueError: if shapes do not match, `num_heads` does not divide the features, or the memory is empty.

    Example:

    >>> import keras
    >>> x = keras.ops.ones((2, 6, 8))
    >>> ScaledDotProductAttention(num_heads=4)(x, x, use_causal_mask=True).shape
    TensorShape([2, 6, 8])

    Reference: Vaswani et al. 2017, equation 1, https://arxiv.org/abs/1706.03762
    """

    def build(self, query_shape, value_shape, key_shape=None):
        super().build(query_shape, value_shape, key_shape)
        require_equal_features(query_shape, key_shape or value_shape)
        self._require_heads("query", query_shape[-1])

    def project_query(self, query):
        return super().project_query(query) * (query.shape[-1] // self.num_heads) ** -0.5


@keras.saving.register_keras_serializable("keras_dl")
class GeneralAttention(DotProduct):
    """Attention with the score `query W key`; queries and keys may differ in their number of features.

    `get_weights()` returns `g` () if `use_scale` is True, then the kernel (Dk, Dq), the transpose of W: the order of
    `tensorflow_addons.seq2seq.LuongAttention`. The call arguments are those of `AdditiveAttention`.

    Args:
        use_scale: bool, whether to multiply the score by a learned number g, starting at 1. Defaults to False.
        num_heads: int, number of heads, a divisor of the features of query and value. Defaults to 1.
        dropout: float in [0, 1), fraction of the attention weights to drop during training. Defaults to 0.
        seed: int, seed of the dropout. Defaults to None, a random seed.
        kernel_initializer: initializer for the kernel. Defaults to `"glorot_uniform"`.
        **kwargs: base layer keyword arguments, such as `name` and `dtype`.

    Raises:
        ValueError: if shapes do not match, `num_heads` does not divide the features, or the memory is empty.

    Example:

    >>> import keras
    >>> GeneralAttention()(keras.ops.ones((2, 4, 3)), keras.ops.ones((2, 6, 5))).shape
    TensorShape([2, 4, 5])

    Reference: Luong et al. 2015, equation 8, https://arxiv.org/abs/1508.04025
    """

    def __init__(
        self, use_scale=False, num_heads=1, dropout=0.0, seed=None, kernel_initializer="glorot_uniform", **kwargs
    ):
        super().__init__(num_heads, dropout, seed, **kwargs)
        self.use_scale = use_scale
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, query_shape, value_shape, key_shape=None):
        super().build(query_shape, value_shape, key_shape)
        self._require_heads("query", query_shape[-1])
        self.scale = self.add_weight((), "ones", name="scale") if self.use_scale else None
        features = (key_shape or value_shape)[-1], query_shape[-1]
        self.key_kernel = self.add_weight(features, self.kernel_initializer, name="key_kernel")

    def project_query(self, query):
        query = super().project_query(query)
        return query if self.scale is None else query * ops.cast(self.scale, self.compute_dtype)

    def project_key(self, key):
        return ops.matmul(super().project_key(key), ops.cast(self.key_kernel, self.compute_dtype))

    def get_config(self):
        config = {"use_scale": self.use_scale}
        config["kernel_initializer"] = keras.initializers.serialize(self.kernel_initializer)
        return {**super().get_config(), **config}


def require_equal_features(query_shape, key_shape):
    """Raises an error if query and key differ in their number of features, because they then have no dot product.

    Args:
        query_shape, key_shape: shapes.

    Raises:
        ValueError: if the last axes differ.

    Example:

    >>> require_equal_features((2, 5, 3), (2, 4, 3))
    """
    if query_shape[-1] != key_shape[-1]:
        raise ValueError(
            "Expected query and key with the same number of features (GeneralAttention accepts any). "
            f"Received: {tuple(query_shape)} and {tuple(key_shape)}"
        )
