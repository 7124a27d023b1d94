"""Attention by place: the query alone says where to look."""

import keras
import tensorflow as tf
from keras import ops

from keras_dl.layers.attention.dot import DotProduct
from keras_dl.layers.attention.inputs import require_count


@keras.saving.register_keras_serializable("keras_dl")
class LocationAttention(DotProduct):
    """Attention by `query W`, with a column of W for each place of the memory; what is there plays no part.

    The only weight is W (Dq, Smax). Masks, heads, causal order and returned weights: see the call arguments of
    `AdditiveAttention`; the key is not looked at.

    Args:
        max_length: int > 0, Smax, how many steps a memory may have.
        num_heads: int > 0, a divisor of the features of query and value; each head sees its part of the query. Defaults
            to 1.
        dropout: float from 0 to below 1, the share of the weights that is dropped in training. Defaults to 0.
        seed: int, of the dropout. Defaults to None, another one each time.
        kernel_initializer: initializer of W. Defaults to `"glorot_uniform"`.
        **kwargs: `name`, `dtype`, as for every layer.

    Raises:
        ValueError: for shapes that do not fit, heads that do not divide the features, a memory without any step or of
            more steps than `max_length`; in TensorFlow's graphs, where how many is known to a run only, the run ends
            with `tf.errors.InvalidArgumentError`, but for graphs that XLA compiles: it leaves checks out.

    Example:

    >>> import keras
    >>> LocationAttention(10)(keras.ops.ones((2, 4, 3)), keras.ops.ones((2, 6, 5))).shape
    TensorShape([2, 4, 5])

    Reference: Luong et al. 2015, equation 8, https://arxiv.org/abs/1508.04025
    """

    def __init__(self, max_length, num_heads=1, dropout=0.0, seed=None, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(num_heads, dropout, seed, **kwargs)
        require_count("max_length", max_length)
        self.max_length = int(max_length)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, query_shape, value_shape, key_shape=None):
        super().build(query_shape, value_shape, key_shape)
        self._require_length(value_shape)
        self._require_heads("query", query_shape[-1])
        self.kernel = self.add_weight((query_shape[-1], self.max_length), self.kernel_initializer, name="kernel")

    def project_key(self, key):
        """The columns of W take the place of the keys, so that all else is as with dot products."""
        self._require_length(key.shape)
        batch, length = ops.shape(key)[:2]
        columns = ops.transpose(ops.cast(self.kernel, self.compute_dtype))
        if key.shape[1] is None and keras.backend.backend() == "tensorflow":
            with tf.control_dependencies([self._assert_length(length)]):
                columns = tf.identity(columns)
        return ops.broadcast_to(columns[None, :length], (batch, length, self.kernel.shape[0]))

    def _assert_length(self, length):
        """For graphs: one column would be taken for all places."""
        return tf.debugging.assert_less_equal(length, self.max_length, f"{self._expected()}. Received: more")

    def _require_length(self, shape):
        if shape[1] is not None and shape[1] > self.max_length:
            raise ValueError(f"{self._expected()}. Received: shape {tuple(shape)}")

    def _expected(self):
        return f"Expected a memory of at most max_length={self.max_length} steps"

    def get_config(self):
        config = {"max_length": self.max_length}
        config["kernel_initializer"] = keras.initializers.serialize(self.kernel_initializer)
        return {**super().get_config(), **config}
