"""Attention by content: the angle between query and key."""

import keras
from keras import ops

from keras_dl.layers.attention.dot import DotProduct, require_equal_features
from keras_dl.ops.attention.precision import wide


@keras.saving.register_keras_serializable("keras_dl")
class CosineAttention(DotProduct):
    """Attention by `beta cos(query, key)`, whatever the lengths of the two; a vector of zeros scores 0.

    The sharpness beta is learned, the only weight, (). Masks, heads, causal order and returned weights: see the call
    arguments of `AdditiveAttention`.

    Args:
        sharpness: float, beta at first. Defaults to 10: with 1 no weight is more than 7.4 times another.
        num_heads: int > 0, a divisor of the features of query and value; each head has an angle of its own. Defaults
            to 1.
        dropout: float from 0 to below 1, the share of the weights that is dropped in training. Defaults to 0.
        seed: int, of the dropout. Defaults to None, another one each time.
        **kwargs: `name`, `dtype`, as for every layer.

    Raises:
        ValueError: for shapes that do not fit, heads that do not divide the features, a memory without any step.

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
        return self._of_length_one(query) * ops.cast(self.sharpness, self.compute_dtype)

    def project_key(self, key):
        return self._of_length_one(key)

    def _of_length_one(self, x):
        heads = self.divided(ops.cast(x, wide(self.compute_dtype)))  # in float16 squares are lost
        squares = ops.maximum(ops.sum(heads * heads, axis=-1, keepdims=True), 1e-30)
        return ops.cast(ops.reshape(heads * ops.rsqrt(squares), ops.shape(x)), self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "sharpness": self.initial_sharpness}
