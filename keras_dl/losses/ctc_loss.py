"""The CTC loss as a Keras loss."""

import keras
from keras import ops

from keras_dl.ops.backend import require_tensorflow
from keras_dl.ops.checks import require_count, require_weights
from keras_dl.ops.ctc import IMPOSSIBLE, certain_blank, loss_and_possible
from keras_dl.ops.dense import dense, with_mask
from keras_dl.ops.precision import loss_dtype
from keras_dl.ops.replicas import loss_over_replicas


@keras.saving.register_keras_serializable("keras_dl")
class CTCLoss(keras.losses.Loss):
    """Connectionist temporal classification loss with correct masking.

    `-log p(labels | logits)` per sequence, averaged over the batch. Keras' `losses.CTC` multiplies the `[B]` losses by
    a `[B, T]` mask; here, a masked frame emits the blank and does not change the loss.

    By default, a row with fewer frames than its labels require has loss and gradient 0, and the first of them causes a
    warning, except under XLA (Keras' default on a GPU); `keras_dl.metrics.ImpossibleRows` counts them. TensorFlow only.

    Args:
        blank_index: int, the class of the blank. Defaults to 0.
        impossible: `"zero"` (default), `"inf"` or `"raise"`: the loss of a row that no path fits, as in
            `keras_dl.ops.ctc.ctc_loss`.
        label_smoothing: float `a` in [0, 1): `(1 - a) ctc - a sum over t of H(softmax(logits[t]))`. The
            entropies H, in nats, favor uncertain frames; up to a constant, they are the divergence from the uniform
            distribution of Kim et al. The loss may become negative. Defaults to 0.
        reduction: as for every Keras loss. Defaults to `"sum_over_batch_size"`.
        name: str. Defaults to `"ctc_loss"`.
        dtype: as for every Keras loss, except that half precision becomes float32.

    Call arguments:
        y_true: int tensor `[B, L]`, padded at the end with the blank or with negative numbers, or ragged.
        y_pred: float tensor `[B, T, V]` of logits.
        sample_weight: float tensor `[B]`, optional.

    Raises:
        ValueError: if `blank_index`, `impossible`, `label_smoothing`, a shape or a label is invalid, or on a backend
            other than TensorFlow.

    Example:

    >>> import numpy as np
    >>> loss = CTCLoss()(np.array([[1]]), np.zeros((1, 2, 3), "float32"))
    >>> round(float(np.exp(-loss)), 4)
    0.3333

    Reference: Graves et al. 2006, https://www.cs.toronto.edu/~graves/icml_2006.pdf; label smoothing: Kim et al. 2018,
    "Improved training for online end-to-end speech recognition systems", equation 4, https://arxiv.org/abs/1711.02212
    """

    def __init__(
        self,
        blank_index=0,
        impossible="zero",
        label_smoothing=0.0,
        reduction="sum_over_batch_size",
        name="ctc_loss",
        dtype=None,
    ):
        require_tensorflow("CTCLoss")
        super().__init__(name=name, reduction=reduction, dtype=loss_dtype(dtype))
        if impossible not in IMPOSSIBLE:
            raise ValueError(f"`impossible` must be one of {', '.join(IMPOSSIBLE)}. Received: {impossible!r}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"`label_smoothing` must be in [0, 1). Received: {label_smoothing!r}")
        self.blank_index = require_count("blank_index", blank_index, 0)
        self.impossible = impossible
        self.label_smoothing = label_smoothing

    def __call__(self, y_true, y_pred, sample_weight=None):
        y_true, (y_pred, mask) = dense(y_true, -1, "int32")[0], with_mask(y_pred)
        if sample_weight is not None:
            sample_weight = ops.convert_to_tensor(sample_weight)
            require_weights(sample_weight.shape, of=y_pred.shape[:1])
        if mask is not None:
            y_pred = certain_blank(ops.cast(y_pred, self.dtype), mask, self.blank_index)
        loss = super().__call__(y_true, y_pred, sample_weight)
        return loss_over_replicas(loss, self.reduction, ops.shape(y_pred)[0], sample_weight)

    def call(self, y_true, y_pred):
        options = {"blank_index": self.blank_index, "impossible": self.impossible, "trains": True}
        loss, possible = loss_and_possible(y_true, y_pred, **options)
        if self.label_smoothing:
            loss = (1 - self.label_smoothing) * loss - self.label_smoothing * ops.sum(_entropy(y_pred), axis=1)
        return ops.where(possible, loss, 0.0 if self.impossible == "zero" else float("inf"))

    def get_config(self):
        return {
            **super().get_config(),
            "blank_index": self.blank_index,
            "impossible": self.impossible,
            "label_smoothing": self.label_smoothing,
        }


def _entropy(logits):
    """Returns the entropy in nats, `[B, T]`; 0 where one class is certain, as in padding."""
    log_probability = ops.log_softmax(logits, axis=-1)
    log_probability = ops.maximum(log_probability, -1e9)  # 0 times -inf is NaN
    return -ops.sum(ops.exp(log_probability) * log_probability, axis=-1)
