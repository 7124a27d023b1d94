"""Cross entropy of sequences of labels."""

import keras
from keras import ops

from keras_dl.ops.checks import require_steps, require_weights
from keras_dl.ops.dense import dense, with_mask
from keras_dl.ops.precision import loss_dtype
from keras_dl.ops.replicas import loss_over_replicas
from keras_dl.ops.special_ids import PADDING


@keras.saving.register_keras_serializable("keras_dl")
class SequenceCrossEntropy(keras.losses.Loss):
    """Cross entropy of each label of a sequence, averaged over all labels of the batch.

    `loss[b, t] = -(1 - a) log p(y_true[b, t]) - a mean over v of log p(v)`, with the smoothing `a`. Labels of 0 and
    masked steps of `y_pred` are padding; padding, even NaN, changes neither loss nor gradient. The mean is over all
    other labels of the batch, so a label has the same weight in short and long rows; without any labels, it is 0.

    Args:
        label_smoothing: float `a` in [0, 1). Defaults to 0.
        reduction: `"sum_over_batch_size"` (default), the mean over the labels; `"sum"`; or None for `loss` itself,
            `[B, T]`, 0 at padding; otherwise as for every Keras loss.
        name: str. Defaults to `"sequence_cross_entropy"`.
        dtype: as for every Keras loss, except that half precision becomes float32.

    Call arguments:
        y_true: int tensor `[B, T]`, 0 = padding, or ragged.
        y_pred: float tensor `[B, T, V]` of logits; its mask is respected.
        sample_weight: float tensor `[B]` or `[B, T]`, optional. As everywhere in Keras, the mean divides by the number
            of labels, not by the sum of their weights.

    Raises:
        ValueError: if `label_smoothing` or a shape is invalid. A label above V - 1 raises TensorFlow's
            `InvalidArgumentError` on a CPU; on a GPU and under XLA it makes the loss NaN.

    Example:

    >>> import numpy as np
    >>> y_pred = np.log([[[0.1, 0.5, 0.4], [0.1, 0.1, 0.8]], [[0.5, 0.25, 0.25], [1.0, 1.0, 1.0]]])
    >>> loss = SequenceCrossEntropy()(np.array([[1, 2], [1, 0]]), y_pred)
    >>> round(float(np.exp(-3 * loss)), 4)                       # 0.5 * 0.8 * 0.25
    0.1

    Reference: Sutskever et al. 2014, "Sequence to sequence learning with neural networks",
    https://arxiv.org/abs/1409.3215; label smoothing: Szegedy et al. 2016, "Rethinking the inception architecture for
    computer vision", section 7, https://arxiv.org/abs/1512.00567
    """

    def __init__(self, label_smoothing=0.0, reduction="sum_over_batch_size", name="sequence_cross_entropy", dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=loss_dtype(dtype))
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"`label_smoothing` must be in [0, 1). Received: {label_smoothing!r}")
        self.label_smoothing = label_smoothing

    def __call__(self, y_true, y_pred, sample_weight=None):
        y_true, (y_pred, mask) = ops.cast(dense(y_true, PADDING)[0], "int32"), with_mask(y_pred)
        require_steps(y_true.shape, y_pred.shape)
        if mask is not None:
            y_true = ops.where(mask, y_true, PADDING)
            y_pred = ops.where(ops.expand_dims(mask, -1), y_pred, 1.0)  # drops the mask, which Keras would apply again
        weight = ops.cast(y_true != PADDING, self.dtype)
        labels = ops.sum(weight)
        if self.reduction in ("sum_over_batch_size", "mean"):
            # Keras divides by B T.
            weight = weight * ops.divide_no_nan(ops.cast(ops.size(weight), self.dtype), labels)
        if sample_weight is not None:
            sample_weight = ops.convert_to_tensor(sample_weight, self.dtype)
            require_weights(sample_weight.shape, of=y_true.shape)
            weight = weight * (ops.expand_dims(sample_weight, 1) if len(sample_weight.shape) == 1 else sample_weight)
        loss = super().__call__(y_true, y_pred, weight)
        return loss_over_replicas(loss, self.reduction, labels, weight)

    def call(self, y_true, y_pred):
        y_true = ops.cast(y_true, "int32")
        counts = y_true != PADDING
        # NaN times a weight of 0 would be NaN.
        y_pred = ops.where(ops.expand_dims(counts, -1), y_pred, 1.0)
        losses = ops.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
        if self.label_smoothing:
            uniform = ops.logsumexp(y_pred, axis=-1) - ops.mean(y_pred, axis=-1)
            losses = (1 - self.label_smoothing) * losses + self.label_smoothing * uniform
        return ops.where(counts, losses, 0.0)

    def get_config(self):
        return {**super().get_config(), "label_smoothing": self.label_smoothing}
