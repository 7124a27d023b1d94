"""Bits per character of a language model."""

import math

import keras
from keras import ops

from keras_dl.ops.checks import require_steps, require_weights
from keras_dl.ops.dense import with_mask
from keras_dl.ops.precision import loss_dtype


@keras.saving.register_keras_serializable("keras_dl")
class BitsPerCharacter(keras.metrics.Metric):
    """Bits that an ideal coder would need for the text, given the model's probabilities, per character.

    Both sums are accumulated over all batches, so the result is that of the whole corpus, not a mean of means. Guessing
    among V equally likely characters costs log2 V bits.

    Pass it to `compile` in `weighted_metrics`; Keras passes weights only to these.

    Args:
        utf8: bool, True if the ids are UTF-8 bytes: a character of several bytes then costs the bits of all of them and
            counts as one character, which makes the result comparable with other models of the text. False (default) if
            each id is a character.
        name: str. Defaults to `"bits_per_character"`.
        dtype: as for every Keras metric, except that half precision becomes float32.

    Call arguments:
        y_true: int tensor `[B, T]`, the next ids, or ragged.
        y_pred: float tensor `[B, T, V]` of logits. Masked positions do not count.
        sample_weight: float tensor `[B, T]` or `[B]`, optional. Positions with weight 0 are ignored, even if they are
            NaN.

    Example:

    >>> import numpy as np
    >>> metric = BitsPerCharacter()
    >>> metric.update_state(np.array([[1, 2]]), np.zeros((1, 2, 4), "float32"))
    >>> float(metric.result())                                   # four equally likely characters
    2.0
    """

    def __init__(self, utf8=False, name="bits_per_character", dtype=None):
        super().__init__(name=name, dtype=loss_dtype(dtype))
        self.utf8 = utf8
        self.bits = self.add_variable(shape=(), initializer="zeros", dtype=self.dtype, name="bits")
        self.characters = self.add_variable(shape=(), initializer="zeros", dtype=self.dtype, name="characters")

    def update_state(self, y_true, y_pred, sample_weight=None):
        (y_true, known), (y_pred, mask) = with_mask(y_true), with_mask(y_pred)
        y_true = ops.cast(y_true, "int32")
        require_steps(y_true.shape, y_pred.shape)
        nats = ops.sparse_categorical_crossentropy(y_true, ops.cast(y_pred, self.dtype), from_logits=True)
        weight = ops.ones_like(nats)
        if sample_weight is not None:
            sample_weight = ops.cast(sample_weight, nats.dtype)
            require_weights(sample_weight.shape, of=y_true.shape)
            one_a_row = len(sample_weight.shape) == 1
            weight = weight * (ops.expand_dims(sample_weight, -1) if one_a_row else sample_weight)
        for counts in (mask, known):
            if counts is not None:
                weight = weight * ops.cast(counts, weight.dtype)
        self.bits.assign_add(ops.sum(ops.where(weight > 0, weight * nats, 0.0)) / math.log(2))
        if self.utf8:
            weight = ops.where(ops.logical_and(y_true >= 0x80, y_true < 0xC0), 0.0, weight)  # continuation bytes
        self.characters.assign_add(ops.sum(weight))

    def result(self):
        return ops.divide_no_nan(self.bits, self.characters)

    def get_config(self):
        return {**super().get_config(), "utf8": self.utf8}
