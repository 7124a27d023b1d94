"""Weighted mean over the steps of a sequence."""

import keras
from keras import ops

from keras_dl.layers.padding import without_padding
from keras_dl.ops.attention import masked_softmax
from keras_dl.ops.checks import require_count, require_rank, require_rate
from keras_dl.ops.precision import wide


@keras.saving.register_keras_serializable("keras_dl")
class AttentionPooling(keras.layers.Layer):
    """Averages a sequence with learned weights, `softmax(v . tanh(h W + b))` of its steps h.

    Use it to classify whole sequences, in place of the last state or the plain mean; the weights show which steps were
    decisive. Padding never changes a result, even if it contains NaN; a sequence without valid steps gives zeros.
    `get_weights()` returns W (D, U), b (U,) and v (U,).

    Args:
        units: int, U.
        dropout: float in [0, 1), fraction of the attention weights to drop during training. Defaults to 0.
        seed: int, seed of the dropout. Defaults to None, a random seed.
        kernel_initializer: initializer for W and v. Defaults to `"glorot_uniform"`.
        **kwargs: base layer keyword arguments, such as `name` and `dtype`.

    Call arguments:
        sequence: float tensor `[B, T, D]`.
        mask: bool tensor `[B, T]`, False at padding. Defaults to the Keras mask of `sequence`.
        return_attention_scores: bool, whether to also return the weights. Defaults to False.
        training: bool, whether to apply dropout.

    Returns:
        float tensor `[B, D]`; with `return_attention_scores=True`, also the weights before dropout, `[B, T]`.

    Raises:
        ValueError: if an argument is out of range, or shapes do not match.

    Example:

    >>> import keras
    >>> pooling = AttentionPooling(8)
    >>> mean, weights = pooling(keras.ops.ones((2, 5, 3)), return_attention_scores=True)
    >>> mean.shape, weights.shape
    (TensorShape([2, 3]), TensorShape([2, 5]))

    Reference: Yang et al. 2016, equations 5 to 7, https://aclanthology.org/N16-1174
    """

    def __init__(self, units, dropout=0.0, seed=None, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.units = require_count("units", units)
        self.dropout = require_rate("dropout", dropout)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.supports_masking = True

    def build(self, sequence_shape):
        require_rank("sequence", sequence_shape, "[B, T, features]")
        self.kernel = self.add_weight((sequence_shape[-1], self.units), self.kernel_initializer, name="kernel")
        self.bias = self.add_weight((self.units,), "zeros", name="bias")
        self.scale = self.add_weight((self.units,), self.kernel_initializer, name="scale")

    def call(self, sequence, mask=None, return_attention_scores=False, training=None):
        require_rank("sequence", sequence.shape, "[B, T, features]")
        require_rank("mask", getattr(mask, "shape", None), "[B, T]")
        sequence = without_padding(ops.cast(sequence, self.compute_dtype), mask)
        hidden = ops.tanh(ops.matmul(sequence, self.kernel) + self.bias)
        exact = wide(self.compute_dtype)
        scores = ops.sum(ops.cast(hidden, exact) * ops.cast(self.scale, exact), axis=-1)
        weights = ops.cast(masked_softmax(scores, mask), self.compute_dtype)
        dropped = weights
        if training and self.dropout:
            dropped = keras.random.dropout(weights, self.dropout, seed=self.seed_generator)
        pooled = ops.matmul(dropped[:, None], sequence)[:, 0]
        return (pooled, weights) if return_attention_scores else pooled

    def compute_mask(self, sequence, mask=None):
        return None

    def compute_output_shape(self, sequence_shape, return_attention_scores=False):
        pooled = (sequence_shape[0], sequence_shape[-1])
        return (pooled, tuple(sequence_shape[:2])) if return_attention_scores else pooled

    def compute_output_spec(self, sequence, mask=None, return_attention_scores=False, training=None):
        require_rank("sequence", sequence.shape, "[B, T, features]")
        require_rank("mask", getattr(mask, "shape", None), "[B, T]")
        shapes = self.compute_output_shape(sequence.shape, return_attention_scores)
        if not return_attention_scores:
            return keras.KerasTensor(shapes, self.compute_dtype)
        return tuple(keras.KerasTensor(shape, self.compute_dtype) for shape in shapes)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "dropout": self.dropout,
            "seed": self.seed,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
