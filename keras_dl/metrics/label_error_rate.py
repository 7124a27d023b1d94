"""Corpus-level label error rate of greedy CTC decodings."""

import keras
from keras import ops

from keras_dl.metrics.ctc_ratio import CTCRatio
from keras_dl.ops.ctc import edit_distance


@keras.saving.register_keras_serializable("keras_dl")
class LabelErrorRate(CTCRatio):
    """Edits needed to turn the greedy CTC decodings into the labels, divided by the number of labels.

    Both sums are accumulated over all batches, so the result is that of the whole corpus, not a mean of means. 0 is
    perfect; insertions can raise it above 1, and it is infinite if there are insertions but no labels. TensorFlow only.

    Args:
        blank_index: int, the class of the blank. Defaults to 0.
        name: str. Defaults to `"label_error_rate"`.
        dtype: as for every Keras metric, except that half precision becomes float32.

    Call arguments:
        y_true: int tensor `[B, L]`, padded with the blank or with negative numbers.
        y_pred: float tensor `[B, T, V]` of logits. Masked frames are ignored.

    Example:

    >>> import numpy as np
    >>> metric = LabelErrorRate()
    >>> metric.update_state(np.array([[1, 2]]), np.eye(3, dtype="float32")[[[1, 0, 0]]])
    >>> float(metric.result())                                   # decoded "1", one of two labels is missing
    0.5

    Reference: Graves 2012, "Supervised sequence labelling with recurrent neural networks", eq. 2.19.
    """

    def __init__(self, blank_index=0, name="label_error_rate", dtype=None):
        super().__init__(blank_index, name=name, dtype=dtype)

    def count(self, tokens, labels):
        return ops.sum(edit_distance(tokens, labels)), ops.sum(labels >= 0)
