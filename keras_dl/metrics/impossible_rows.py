"""The number of rows from which CTC cannot learn."""

import keras
from keras import ops

from keras_dl.ops.checks import agree, require_count
from keras_dl.ops.ctc import may_emit_label, minimum_frames
from keras_dl.ops.dense import dense, with_mask
from keras_dl.ops.precision import loss_dtype


@keras.saving.register_keras_serializable("keras_dl")
class ImpossibleRows(keras.metrics.Metric):
    """The number of rows, over all batches, whose labels do not fit into their frames.

    Each label requires a frame, and equal neighbors another one for the blank between them. No path collapses to the
    labels of a shorter row, so it does not contribute to training.

    Args:
        blank_index: int, the class of the blank. Defaults to 0.
        name: str. Defaults to `"impossible_rows"`.
        dtype: as for every Keras metric, except that half precision becomes float32.

    Call arguments:
        y_true: int tensor `[B, L]`, padded at the end with the blank or with negative numbers.
        y_pred: float tensor `[B, T, V]` of logits. Masked frames are ignored, as are frames that
            `keras_dl.layers.CTCOutput` turned into certain blanks because they were masked.

    Example:

    >>> import numpy as np
    >>> metric = ImpossibleRows()
    >>> metric.update_state(np.array([[1, 2, 2], [1, 2, 1]]), np.zeros((2, 3, 4)))         # 1 2 - 2: four frames
    >>> float(metric.result())
    1.0
    """

    def __init__(self, blank_index=0, name="impossible_rows", dtype=None):
        super().__init__(name=name, dtype=loss_dtype(dtype))
        self.blank_index = require_count("blank_index", blank_index, 0)
        self.rows = self.add_variable(shape=(), initializer="zeros", dtype=self.dtype, name="rows")

    def update_state(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            raise ValueError("ImpossibleRows counts whole rows and does not support `sample_weight`.")
        y_true, (y_pred, mask) = ops.convert_to_tensor(dense(y_true, -1, "int32")[0]), with_mask(y_pred)
        if len(y_true.shape) != 2 or len(y_pred.shape) != 3 or not agree(y_true.shape[:1], y_pred.shape[:1]):
            raise ValueError(f"Expected y_true [B, L], y_pred [B, T, V]. Received: {y_true.shape}, {y_pred.shape}")
        if self.blank_index >= (y_pred.shape[-1] or self.blank_index + 1):
            expected = f"`blank_index` must be a class from 0 to {y_pred.shape[-1] - 1}"
            raise ValueError(f"{expected}. Received: {self.blank_index}")
        usable = may_emit_label(y_pred, self.blank_index)
        frames = ops.sum(ops.cast(usable if mask is None else ops.logical_and(usable, mask), "int32"), axis=1)
        impossible = minimum_frames(y_true, blank_index=self.blank_index) > frames
        self.rows.assign_add(ops.cast(ops.sum(impossible), self.rows.dtype))

    def result(self):
        return self.rows + 0.0  # a tensor, not the variable, which will change

    def get_config(self):
        return {**super().get_config(), "blank_index": self.blank_index}
