"""The fraction of labels predicted correctly."""

import keras
from keras import ops

from keras_dl.ops.checks import require_steps, require_weights
from keras_dl.ops.dense import dense, with_mask
from keras_dl.ops.precision import loss_dtype
from keras_dl.ops.special_ids import PADDING


@keras.saving.register_keras_serializable("keras_dl")
class TokenAccuracy(keras.metrics.Metric):
    """The fraction of labels with the largest logit, given the correct previous labels.

    Labels are counted over all batches, without padding. It measures the prediction of the next label under teacher
    forcing, not the quality of generated sequences, in which one wrong label can affect all later ones.

    Args:
        name: str. Defaults to `"token_accuracy"`.
        dtype: as for every Keras metric, except that half precision becomes float32.

    Call arguments:
        y_true: int tensor `[B, T]`, 0 = padding.
        y_pred: float tensor `[B, T, V]` of logits. Masked positions do not count.
        sample_weight: float tensor `[B, T]` or `[B]`, optional.

    Example:

    >>> import numpy as np
    >>> metric = TokenAccuracy()
    >>> metric.update_state(np.array([[1, 2, 2], [1, 0, 0]]), np.eye(3)[[[1, 2, 1], [1, 0, 1]]])
    >>> float(metric.result())                                   # three of four
    0.75
    """

    def __init__(self, name="token_accuracy", dtype=None):
        super().__init__(name=name, dtype=loss_dtype(dtype))
        self.right = self.add_variable(shape=(), initializer="zeros", dtype=self.dtype, name="right")
        self.total = self.add_variable(shape=(), initializer="zeros", dtype=self.dtype, name="total")

    def update_state(self, y_true, y_pred, sample_weight=None):
        right, counts = correct_labels(y_true, y_pred)
        weight = ops.cast(counts, self.dtype)
        if sample_weight is not None:
            sample_weight = ops.cast(sample_weight, weight.dtype)
            require_weights(sample_weight.shape, of=counts.shape)
            one_a_row = len(sample_weight.shape) == 1
            weight = weight * (ops.expand_dims(sample_weight, -1) if one_a_row else sample_weight)
        self.right.assign_add(ops.sum(ops.where(right, weight, 0.0)))
        self.total.assign_add(ops.sum(weight))

    def result(self):
        return ops.divide_no_nan(self.right, self.total)


def correct_labels(y_true, y_pred):
    """Returns where the largest logit is that of the label, and where there is a label.

    Args:
        y_true: int tensor `[B, T]`, 0 = padding.
        y_pred: float tensor `[B, T, V]`; its mask is respected.

    Returns:
        `(right, counts)`: bool tensors `[B, T]`; `right` may be anything where `counts` is False.

    Raises:
        ValueError: if the shapes differ.

    Example:

    >>> import numpy as np
    >>> [array.tolist() for array in map(np.array, correct_labels(np.array([[2, 1, 0]]), np.eye(3)[[[2, 2, 0]]]))]
    [[[True, False, True]], [[True, True, False]]]
    """
    y_true, (y_pred, mask) = ops.cast(dense(y_true, PADDING)[0], "int32"), with_mask(y_pred)
    require_steps(y_true.shape, y_pred.shape)
    counts = y_true != PADDING
    if mask is not None:
        counts = ops.logical_and(counts, mask)
    return ops.equal(ops.cast(ops.argmax(y_pred, axis=-1), "int32"), y_true), counts
