"""Attention by position: the scores depend only on the query."""

import keras
import tensorflow as tf
from keras import ops

from keras_dl.layers.attention.dot import DotProduct
from keras_dl.ops.checks import require_count


@keras.saving.register_keras_serializable("keras_dl")
class LocationAttention(DotProduct):
    """Attention with the score `query W`, where each column of W belongs to one position of the memory.

    The scores do not depend on the content of the memory, and `key` is ignored. The only weight is W (Dq, Smax). The
    call arguments are those of `AdditiveAttention`.

    Args:
        max_length: int, Smax, the maximum number of steps of a memory.
        num_heads: int, number of heads, a divisor of the features of query and value; each head uses its part of the
            query. Defaults to 1.
        dropout: float in [0, 1), fraction of the attention weights to drop during training. Defaults to 0.
        seed: int, seed of the dropout. Defaults to None, a random seed.
        kernel_initializer: initializer for W. Defaults to `"glorot_uniform"`.
        **kwargs: base layer keyword arguments, such as `name` and `dtype`.

    Raises:
        ValueError: if shapes do not match, `num_heads` does not divide the features, or the memory is empty or longer
            than `max_length`. In TensorFlow graphs where the length is known only at run time, the call fails with
            `tf.errors.InvalidArgumentError` instead, except in graphs compiled by XLA, which omits such checks.

    Example:

    >>> import keras
    >>> LocationAttention(10)(keras.ops.ones((2, 4, 3)), keras.ops.ones((2, 6, 5))).shape
    TensorShape([2, 4, 5])

    Reference: Luong et al. 2015, equation 8, https://arxiv.org/abs/1508.04025
    """

    def __init__(self, max_length, num_heads=1, dropout=0.0, seed=None, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(num_heads, dropout, seed, **kwargs)
        self.max_length = require_count("max_length", max_length)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, query_shape, value_shape, key_shape=None):
        super().build(query_shape, value_shape, key_shape)
        self._require_length(value_shape)
        self._require_heads("query", query_shape[-1])
        self.kernel = self.add_weight((query_shape[-1], self.max_length), self.kernel_initializer, name="kernel")

    def project_key(self, key):
        """Returns the columns of W in place of the keys, so that the score is a dot product."""
        self._require_length(key.shape)
        batch, length = ops.shape(key)[:2]
        columns = ops.transpose(ops.cast(self.kernel, self.compute_dtype))
        if key.shape[1] is None and keras.backend.backend() == "tensorflow":
            with tf.control_dependencies([self._assert_length(length)]):
                columns = tf.identity(columns)
        return ops.broadcast_to(columns[None, :length], (batch, length, self.kernel.shape[0]))

    def _assert_length(self, length):
        """Asserts the length in a graph, where a single column would silently broadcast over all positions."""
        return tf.debugging.assert_less_equal(length, self.max_length, f"{self._expected()}. Received: more")

    def _require_length(self, shape):
        if shape[1] is not None and shape[1] > self.max_length:
            raise ValueError(f"{self._expected()}. Received: shape {tuple(shape)}")

    def _expected(self):
        return f"Expected a memory with at most max_length={self.max_length} steps"

    def get_config(self):
        config = {"max_length": self.max_length}
        config["kernel_initializer"] = keras.initializers.serialize(self.kernel_initializer)
        return {**super().get_config(), **config}
