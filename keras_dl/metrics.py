"""Metrics for sequences, streaming and at corpus level."""

import keras
from keras import ops

from keras_dl.ops.ctc import certain_blank, edit_distance, greedy_decode


@keras.saving.register_keras_serializable("keras_dl")
class LabelErrorRate(keras.metrics.Metric):
    """Edits needed to turn the greedy CTC decodings into the labels, over the number of labels.

    Sums of both are kept over all batches, so that the result is that of the whole corpus and not a mean of means.
    0 is perfect; insertions can push it above 1.

    Args:
        blank_index: int, the class of the blank. Defaults to 0.
        name: str. Defaults to `"label_error_rate"`.
        dtype: as for every Keras metric.

    Call arguments:
        y_true: int tensor `[B, L]`, padded with the blank or with negative numbers.
        y_pred: float tensor `[B, T, V]` of logits.

    Example:

    >>> import numpy as np
    >>> metric = LabelErrorRate()
    >>> metric.update_state(np.array([[1, 2]]), np.eye(3, dtype="float32")[[[1, 0, 0]]])
    >>> float(metric.result())                                   # read "1", one of two labels is missing
    0.5

    Reference: Graves 2012, "Supervised sequence labelling with recurrent neural networks", eq. 2.19.
    """

    def __init__(self, blank_index=0, name="label_error_rate", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.blank_index = blank_index
        self.edits = self.add_variable(shape=(), initializer="zeros", name="edits")
        self.labels = self.add_variable(shape=(), initializer="zeros", name="labels")

    def update_state(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            raise ValueError("LabelErrorRate counts edits of whole sequences and takes no `sample_weight`.")
        y_true = ops.cast(y_true, "int32")
        y_true = ops.where(y_true == self.blank_index, -1, y_true)
        mask = getattr(y_pred, "_keras_mask", None)
        if mask is not None:
            y_pred = certain_blank(y_pred, mask, self.blank_index)
        tokens, _ = greedy_decode(y_pred, blank_index=self.blank_index)
        self.edits.assign_add(ops.sum(edit_distance(tokens, y_true)))
        self.labels.assign_add(ops.cast(ops.sum(y_true >= 0), self.labels.dtype))

    def result(self):
        return ops.divide_no_nan(self.edits, self.labels)

    def get_config(self):
        return {**super().get_config(), "blank_index": self.blank_index}


@keras.saving.register_keras_serializable("keras_dl")
class BitsPerCharacter(keras.metrics.Metric):
    """Bits that an ideal coder needs for the text with the model's probabilities, over the number of characters.

    Sums of both are kept over all batches, so that the result is that of the whole corpus and not a mean of means.
    Guessing among V equally likely characters costs log2 V.

    Give it to `compile` as one of `weighted_metrics`: Keras passes weights to no others.

    Args:
        utf8: bool. True if the ids are the bytes of UTF-8: a character of several bytes then costs the bits of all and
            counts once, so that the result compares with that of any other model of the text. False (default) if each
            id is a character.
        name: str. Defaults to `"bits_per_character"`.
        dtype: as for every Keras metric.

    Call arguments:
        y_true: int tensor `[B, T]`, the ids that follow.
        y_pred: float tensor `[B, T, V]` of logits. Masked positions do not count.
        sample_weight: float tensor `[B, T]` or `[B]`, optional. Positions of weight 0 do not count, whatever they hold.

    Example:

    >>> import numpy as np
    >>> metric = BitsPerCharacter()
    >>> metric.update_state(np.array([[1, 2]]), np.zeros((1, 2, 4), "float32"))
    >>> float(metric.result())                                   # four equally likely characters
    2.0
    """

    def __init__(self, utf8=False, name="bits_per_character", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.utf8 = utf8
        self.bits = self.add_variable(shape=(), initializer="zeros", name="bits")
        self.characters = self.add_variable(shape=(), initializer="zeros", name="characters")

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_true = ops.cast(y_true, "int32")
        nats = ops.sparse_categorical_crossentropy(y_true, ops.cast(y_pred, self.dtype), from_logits=True)
        weight = ops.ones_like(nats)
        if sample_weight is not None:
            sample_weight = ops.cast(sample_weight, nats.dtype)
            weight *= ops.expand_dims(sample_weight, -1) if len(sample_weight.shape) == 1 else sample_weight
        mask = getattr(y_pred, "_keras_mask", None)
        if mask is not None:
            weight *= ops.cast(mask, weight.dtype)
        self.bits.assign_add(ops.sum(ops.where(weight > 0, weight * nats, 0.0)) / ops.log(2.0))
        if self.utf8:
            weight = ops.where(ops.logical_and(y_true >= 0x80, y_true < 0xC0), 0.0, weight)  # not a character's first
        self.characters.assign_add(ops.sum(weight))

    def result(self):
        return ops.divide_no_nan(self.bits, self.characters)

    def get_config(self):
        return {**super().get_config(), "utf8": self.utf8}


@keras.saving.register_keras_serializable("keras_dl")
class NRMSE(keras.metrics.Metric):
    """Root mean squared error over the standard deviation of the targets: 1 is what their mean would score.

    Sums are kept over all batches, so that error and deviation are those of the whole corpus. Each variable, an entry
    of the last axis, is measured by its own deviation, and the squares of these ratios are averaged: the score does not
    depend on the unit of any variable.

    Args:
        name: str. Defaults to `"nrmse"`.
        dtype: as for every Keras metric.

    Call arguments:
        y_true: tensor `[..., D]`.
        y_pred: tensor `[..., D]`. Masked positions do not count.
        sample_weight: tensor of the leading axes, optional. Positions of weight 0 do not count, whatever they hold.

    Example:

    >>> import numpy as np
    >>> metric = NRMSE()
    >>> metric.update_state(np.array([[0.0], [20.0]]), np.array([[1.0], [19.0]]))
    >>> round(float(metric.result()), 6)                         # off by 1; the targets deviate by 10
    0.1
    """

    def __init__(self, name="nrmse", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.sums = None

    def update_state(self, y_true, y_pred, sample_weight=None):
        mask = getattr(y_pred, "_keras_mask", None)
        y_true, y_pred = ops.convert_to_tensor(y_true, self.dtype), ops.convert_to_tensor(y_pred, self.dtype)
        if self.sums is None:
            names = ("weights", "means", "deviations", "errors")
            self.sums = [self.add_variable((y_pred.shape[-1],), initializer="zeros", name=name) for name in names]
        weight = ops.ones_like(y_true[..., 0])
        for given in (sample_weight, mask):
            if given is not None:
                given = ops.cast(given, self.dtype)
                while len(given.shape) < len(weight.shape):
                    given = ops.expand_dims(given, -1)
                weight *= given
        weight = ops.expand_dims(weight, -1)
        y_true, y_pred = ops.where(weight > 0, y_true, 0.0), ops.where(weight > 0, y_pred, 0.0)
        axes = tuple(range(len(y_true.shape) - 1))

        # Means and squared deviations of two sets make those of both (Chan et al. 1979): no large sums are subtracted.
        weights, means, deviations, errors = self.sums
        added = ops.sum(weight * ops.ones_like(y_true), axis=axes)
        mean = ops.divide_no_nan(ops.sum(weight * y_true, axis=axes), added)
        total = weights + added
        step = mean - means
        deviations.assign_add(
            ops.sum(weight * ops.square(y_true - mean), axis=axes)
            + ops.square(step) * ops.divide_no_nan(weights * added, total)
        )
        means.assign_add(step * ops.divide_no_nan(added, total))
        weights.assign(total)
        errors.assign_add(ops.sum(weight * ops.square(y_true - y_pred), axis=axes))

    def result(self):
        if self.sums is None:
            return ops.zeros((), self.dtype)
        _, _, deviations, errors = self.sums
        # Where targets are constant, no error is small.
        ratios = ops.where(errors == 0, 0.0, errors / ops.maximum(deviations, 0.0))
        return ops.sqrt(ops.mean(ratios))
