"""The base class of metrics of greedy CTC decodings."""

import keras
from keras import ops

from keras_dl.ops.backend import require_tensorflow
from keras_dl.ops.checks import require_count
from keras_dl.ops.ctc import certain_blank, greedy_decode
from keras_dl.ops.dense import dense, with_mask
from keras_dl.ops.precision import loss_dtype


class CTCRatio(keras.metrics.Metric):
    """The ratio of two counts in greedy CTC decodings.

    Both counts are accumulated over all batches, so the result is that of the whole corpus, not a mean of means.
    Subclasses implement `count`. TensorFlow only.

    Args:
        blank_index: int, the class of the blank. Defaults to 0.
        name: str.
        dtype: as for every Keras metric, except that half precision becomes float32.

    Call arguments:
        y_true: int tensor `[B, L]`, padded with the blank or with negative numbers.
        y_pred: float tensor `[B, T, V]` of logits. Masked frames are ignored.

    Example:

    >>> import numpy as np
    >>> class TokensPerLabel(CTCRatio):
    ...     def count(self, tokens, labels):
    ...         return ops.sum(tokens >= 0), ops.sum(labels >= 0)
    >>> metric = TokensPerLabel()
    >>> metric.update_state(np.array([[1, 2]]), np.eye(3, dtype="float32")[[[1, 0, 0]]])
    >>> float(metric.result())
    0.5
    """

    classes = None  # required number of classes of the logits; None for any

    def __init__(self, blank_index=0, name=None, dtype=None):
        require_tensorflow(type(self).__name__)
        super().__init__(name=name, dtype=loss_dtype(dtype))
        self.blank_index = require_count("blank_index", blank_index, 0)
        self.counted = self.add_variable(shape=(), initializer="zeros", dtype=self.dtype, name="counted")
        self.total = self.add_variable(shape=(), initializer="zeros", dtype=self.dtype, name="total")

    def count(self, tokens, labels):
        """Counts in a batch.

        Args:
            tokens: int32 tensor `[B, T]`, the decodings, padded with -1.
            labels: int32 tensor `[B, L]`, the labels, padded with -1.

        Returns:
            `(counted, total)`: tensors `[]`.
        """
        raise NotImplementedError

    def update_state(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            raise ValueError(f"{type(self).__name__} counts whole sequences and does not support `sample_weight`.")
        y_true, (y_pred, mask) = ops.cast(dense(y_true, -1, "int32")[0], "int32"), with_mask(y_pred)
        if self.classes not in (None, y_pred.shape[-1]):
            expected = f"Expected logits of {self.classes - 1} labels and the blank"
            raise ValueError(f"{expected}. Received: shape {tuple(y_pred.shape)}")
        labels = ops.where(ops.logical_or(y_true < 0, y_true == self.blank_index), -1, y_true)
        if mask is not None:
            y_pred = certain_blank(y_pred, mask, self.blank_index)
        # Divergence is visible in the loss; here NaN, which the decoder rejects, may become any number.
        y_pred = ops.where(ops.isnan(y_pred), 0.0, y_pred)
        tokens, *_ = greedy_decode(y_pred, blank_index=self.blank_index)
        counted, total = self.count(tokens, labels)
        self.counted.assign_add(ops.cast(counted, self.counted.dtype))
        self.total.assign_add(ops.cast(total, self.total.dtype))

    def result(self):
        return ops.where(self.counted == 0, 0.0, self.counted / self.total)

    def get_config(self):
        return {**super().get_config(), "blank_index": self.blank_index}
