"""A sequence as the mean of its steps, weighted by what each is worth."""

import keras
from keras import ops

from keras_dl.layers.attention.inputs import require_count, require_dropout, without_padding
from keras_dl.ops.attention import masked_softmax
from keras_dl.ops.attention.precision import wide


@keras.saving.register_keras_serializable("keras_dl")
class AttentionPooling(keras.layers.Layer):
    """Sums a sequence up by its attention to itself: weights `softmax(v . tanh(h W + b))` of the steps h.

    For classes of whole sequences, in the place of the last state or of the mean; the weights tell what was decisive.
    Padding changes nothing, NaN included; a row without any step gives zeros. `get_weights()` gives W (D, U), b (U,)
    and v (U,).

    Args:
        units: int > 0, U.
        dropout: float from 0 to below 1, the share of the weights that is dropped in training. Defaults to 0.
        seed: int, of the dropout. Defaults to None, another one each time.
        kernel_initializer: initializer of W and v. Defaults to `"glorot_uniform"`.
        **kwargs: `name`, `dtype`, as for every layer.

    Call arguments:
        sequence: float tensor `[B, T, D]`.
        mask: bool tensor `[B, T]`, False at padding; Keras' mask of `sequence` by default.
        return_attention_scores: bool, whether the weights are wanted too. Defaults to False.
        training: bool, whether to drop anything.

    Returns:
        float tensor `[B, D]`; with `return_attention_scores=True` also the weights, `[B, T]`, before dropout.

    Raises:
        ValueError: if an argument is out of range, or shapes do not fit.

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
        require_count("units", units)
        require_dropout(dropout)
        self.units = int(units)
        self.dropout = float(dropout)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.supports_masking = True

    def build(self, sequence_shape):
        _require_ranks(sequence_shape)
        self.kernel = self.add_weight((sequence_shape[-1], self.units), self.kernel_initializer, name="kernel")
        self.bias = self.add_weight((self.units,), "zeros", name="bias")
        self.scale = self.add_weight((self.units,), self.kernel_initializer, name="scale")

    def call(self, sequence, mask=None, return_attention_scores=False, training=None):
        _require_ranks(sequence.shape, mask)
        sequence = without_padding(sequence, mask)
        hidden = ops.tanh(ops.matmul(sequence, self.kernel) + self.bias)
        exact = wide(self.compute_dtype)
        scores = ops.sum(ops.cast(hidden, exact) * ops.cast(self.scale, exact), axis=-1)
        weights = ops.cast(masked_softmax(scores, mask), self.compute_dtype)
        kept = weights
        if training and self.dropout:
            kept = keras.random.dropout(weights, self.dropout, seed=self.seed_generator)
        pooled = ops.matmul(kept[:, None], sequence)[:, 0]
        return (pooled, weights) if return_attention_scores else pooled

    def compute_mask(self, sequence, mask=None):
        return None

    def compute_output_shape(self, sequence_shape, return_attention_scores=False):
        pooled = (sequence_shape[0], sequence_shape[-1])
        return (pooled, tuple(sequence_shape[:2])) if return_attention_scores else pooled

    def compute_output_spec(self, sequence, mask=None, return_attention_scores=False, training=None):
        _require_ranks(sequence.shape, mask)
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


def _require_ranks(shape, mask=None):
    if len(shape) != 3:
        raise ValueError(f"Expected `sequence` of shape [B, T, features]. Received: {tuple(shape)}")
    if mask is not None and len(mask.shape) != 2:
        raise ValueError(f"Expected `mask` of shape [B, T]. Received: {tuple(mask.shape)}")
