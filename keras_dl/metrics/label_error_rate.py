"""Edits of greedy CTC decodings, at corpus level."""

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
        tokens, *_ = greedy_decode(y_pred, blank_index=self.blank_index)
        self.edits.assign_add(ops.sum(edit_distance(tokens, y_true)))
        self.labels.assign_add(ops.cast(ops.sum(y_true >= 0), self.labels.dtype))

    def result(self):
        return ops.divide_no_nan(self.edits, self.labels)

    def get_config(self):
        return {**super().get_config(), "blank_index": self.blank_index}
