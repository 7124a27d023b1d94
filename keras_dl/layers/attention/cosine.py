"""Attention scored by the angle between query and key."""

import keras
from keras import ops

from keras_dl.layers.attention.dot import DotProduct, require_equal_features
from keras_dl.ops.precision import wide


@keras.saving.register_keras_serializable("keras_dl")
class CosineAttention(DotProduct):
    """Attention with the score `beta cos(query, key)`.

    The score does not depend on the lengths of the vectors; a vector of zeros scores 0. The only weight is the learned
    sharpness beta (). The call arguments are those of `AdditiveAttention`.

    Args:
        sharpness: float, initial value of beta. Defaults to 10; with 1, no weight could exceed another by more than a
            factor of 7.4.
        num_heads: int, number of heads, a divisor of the features of query and value; the angle is computed per head.
            Defaults to 1.
        dropout: float in [0, 1), fraction of the attention weights to drop during training. Defaults to 0.
        seed: int, seed of the dropout. Defaults to None, a random seed.
        **kwargs: base layer keyword arguments, such as `name` and `dtype`.

    Raises:
        ValueError: if shapes do not match, `num_heads` does not divide the features, or the memory is empty.

    Example:

    >>> import numpy as np
    >>> keys = np.array([[[0.1, 0.0], [0.0, 100.0]]])
    >>> context, weights = CosineAttention()(np.array([[[1.0, 0.0]]]), keys, return_attention_scores=True)
    >>> weights.numpy().round(3)
    array([[[1., 0.]]], dtype=float32)

    Reference: Graves et al. 2014, equations 5 and 6, https://arxiv.org/abs/1410.5401
    """

    def __init__(self, sharpness=10.0, num_heads=1, dropout=0.0, seed=None, **kwargs):
        super().__init__(num_heads, dropout, seed, **kwargs)
        self.initial_sharpness = float(sharpness)

    def build(self, query_shape, value_shape, key_shape=None):
        super().build(query_shape, value_shape, key_shape)
        require_equal_features(query_shape, key_shape or value_shape)
        self._require_heads("query", query_shape[-1])
        initializer = keras.initializers.Constant(self.initial_sharpness)
        self.sharpness = self.add_weight((), initializer, name="sharpness")

    def project_query(self, query):
        return self._normalized(query) * ops.cast(self.sharpness, self.compute_dtype)

    def project_key(self, key):
        return self._normalized(key)

    def _normalized(self, x):
        heads = self.divided(ops.cast(x, wide(self.compute_dtype)))  # squares would underflow in float16
        squares = ops.maximum(ops.sum(heads * heads, axis=-1, keepdims=True), 1e-30)
        return ops.cast(ops.reshape(heads * ops.rsqrt(squares), ops.shape(x)), self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "sharpness": self.initial_sharpness}
