"""The fraction of sequences decoded without an error."""

import keras
from keras import ops

from keras_dl.metrics.ctc_ratio import CTCRatio
from keras_dl.ops.ctc import edit_distance


@keras.saving.register_keras_serializable("keras_dl")
class SequenceAccuracy(CTCRatio):
    """The fraction of rows whose greedy CTC decoding equals their labels.

    Rows are counted over all batches. TensorFlow only.

    Args:
        blank_index: int, the class of the blank. Defaults to 0.
        name: str. Defaults to `"sequence_accuracy"`.
        dtype: as for every Keras metric, except that half precision becomes float32.

    Call arguments:
        y_true: int tensor `[B, L]`, padded with the blank or with negative numbers.
        y_pred: float tensor `[B, T, V]` of logits. Masked frames are ignored.

    Example:

    >>> import numpy as np
    >>> metric = SequenceAccuracy()
    >>> metric.update_state(np.array([[1, 2], [1, -1]]), np.eye(3, dtype="float32")[[[1, 0, 0], [1, 1, 0]]])
    >>> float(metric.result())                                   # "1" matches only the second row
    0.5
    """

    def __init__(self, blank_index=0, name="sequence_accuracy", dtype=None):
        super().__init__(blank_index, name=name, dtype=dtype)

    def count(self, tokens, labels):
        return ops.sum(edit_distance(tokens, labels) == 0), ops.shape(labels)[0]
