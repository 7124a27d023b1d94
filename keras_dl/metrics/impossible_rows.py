"""Rows that CTC cannot learn from."""

import keras
from keras import ops

from keras_dl.ops.ctc import minimum_frames


@keras.saving.register_keras_serializable("keras_dl")
class ImpossibleRows(keras.metrics.Metric):
    """How many rows have more labels than fit into their frames, in all batches.

    Each label needs a frame, and equal neighbours one more for the blank between them. No path leads to the labels of
    a row that is shorter, so its loss says nothing, and it teaches nothing.

    Args:
        blank_index: int, the class of the blank. Defaults to 0.
        name: str. Defaults to `"impossible_rows"`.
        dtype: as for every Keras metric.

    Call arguments:
        y_true: int tensor `[B, L]`, padded at the end with the blank or with negative numbers.
        y_pred: float tensor `[B, T, V]` of logits. Masked frames do not count as frames; but the output of
            `keras_dl.layers.CTCOutput` has no mask, as its masked frames are blanks like others, so there all T count
            and rows that are too short only without their padding are not found.

    Example:

    >>> import numpy as np
    >>> metric = ImpossibleRows()
    >>> metric.update_state(np.array([[1, 2, 2], [1, 2, 1]]), np.zeros((2, 3, 4)))         # 1 2 - 2 needs four frames
    >>> float(metric.result())
    1.0
    """

    def __init__(self, blank_index=0, name="impossible_rows", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.blank_index = blank_index
        self.rows = self.add_variable(shape=(), initializer="zeros", name="rows")

    def update_state(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            raise ValueError("ImpossibleRows counts whole rows and takes no `sample_weight`.")
        mask = getattr(y_pred, "_keras_mask", None)
        frames = ops.shape(y_pred)[1] if mask is None else ops.sum(ops.cast(mask, "int32"), axis=1)
        impossible = minimum_frames(y_true, blank_index=self.blank_index) > frames
        self.rows.assign_add(ops.cast(ops.sum(impossible), self.rows.dtype))

    def result(self):
        return self.rows + 0.0  # a tensor, not the variable that goes on counting

    def get_config(self):
        return {**super().get_config(), "blank_index": self.blank_index}
