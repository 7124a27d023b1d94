"""The fraction of sequences predicted without an error."""

import keras
from keras import ops

from keras_dl.metrics.token_accuracy import correct_labels
from keras_dl.ops.precision import loss_dtype


@keras.saving.register_keras_serializable("keras_dl")
class ExactMatch(keras.metrics.Metric):
    """The fraction of rows in which every label has the largest logit.

    With teacher forcing and labels that end with the end token, these are exactly the rows that greedy decoding gets
    right, because its inputs are the same up to its first error. Rows are counted over all batches; rows without labels
    are ignored.

    Args:
        name: str. Defaults to `"exact_match"`.
        dtype: as for every Keras metric, except that half precision becomes float32.

    Call arguments:
        y_true: int tensor `[B, T]`, 0 = padding.
        y_pred: float tensor `[B, T, V]` of logits. Masked positions do not count.

    Example:

    >>> import numpy as np
    >>> metric = ExactMatch()
    >>> metric.update_state(np.array([[1, 2, 2], [1, 0, 0]]), np.eye(3)[[[1, 2, 1], [1, 0, 1]]])
    >>> float(metric.result())                                   # the second row
    0.5
    """

    def __init__(self, name="exact_match", dtype=None):
        super().__init__(name=name, dtype=loss_dtype(dtype))
        self.right = self.add_variable(shape=(), initializer="zeros", dtype=self.dtype, name="right")
        self.total = self.add_variable(shape=(), initializer="zeros", dtype=self.dtype, name="total")

    def update_state(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            raise ValueError("ExactMatch counts whole rows and does not support `sample_weight`.")
        right, counts = correct_labels(y_true, y_pred)
        rows = ops.any(counts, axis=1)
        whole = ops.logical_and(rows, ops.all(ops.logical_or(right, ops.logical_not(counts)), axis=1))
        self.right.assign_add(ops.cast(ops.sum(whole), self.right.dtype))
        self.total.assign_add(ops.cast(ops.sum(rows), self.total.dtype))

    def result(self):
        return ops.divide_no_nan(self.right, self.total)
