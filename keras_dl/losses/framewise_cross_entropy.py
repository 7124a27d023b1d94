"""Cross entropy at the steps of a sequence, weighted over time."""

import keras
from keras import ops

from keras_dl.ops.checks import require_weights
from keras_dl.ops.dense import dense, with_mask
from keras_dl.ops.precision import loss_dtype
from keras_dl.ops.replicas import loss_over_replicas

WEIGHTS = ("all", "last", "ramp")


@keras.saving.register_keras_serializable("keras_dl")
class FramewiseCrossEntropy(keras.losses.Loss):
    """Cross entropy at every step of a sequence, weighted by the position of the step.

    `loss[b] = sum over t of w[b, t] * -log p(y_true[b, t] | step t)`, with weights that sum to 1 over the valid steps,
    so rows of all lengths have the same weight. A step is valid unless it is masked or its label is negative; invalid
    steps, even NaN, change neither loss nor gradient. A row without valid steps has loss 0.

    With one class for the whole sequence, it is the target of every step ("target replication"): a recurrent network
    then learns from all of its outputs, not only from the last one.

    Args:
        weights: `"all"` (default): the same weight for all steps; `"last"`: only the last step of each row; `"ramp"`: a
            linear increase, with weight `t / (1 + 2 + ... + n)` for step t of n, because later steps have seen more of
            the input.
        from_logits: bool, False if `y_pred` contains probabilities. Defaults to True.
        reduction: as for every Keras loss. Defaults to `"sum_over_batch_size"`.
        name: str. Defaults to `"framewise_cross_entropy"`.
        dtype: as for every Keras loss, except that half precision becomes float32.

    Call arguments:
        y_true: int tensor, a class for each step, `[B, T]` or ragged, or for the whole sequence, `[B]` or `[B, 1]`.
        y_pred: float tensor `[B, T, V]`; its mask is respected.
        sample_weight: float tensor `[B]`, optional.

    Raises:
        ValueError: if `weights` or a shape is invalid. A class above V - 1 raises TensorFlow's `InvalidArgumentError`
            on a CPU; on a GPU and under XLA it makes the loss NaN.

    Example:

    >>> import numpy as np
    >>> y_pred = np.log([[[0.5, 0.5], [0.2, 0.8]]])
    >>> [round(float(FramewiseCrossEntropy(weights)(np.array([1]), y_pred)), 3) for weights in ("all", "last", "ramp")]
    [0.458, 0.223, 0.38]

    Reference: Lipton et al. 2016, "Learning to diagnose with LSTM recurrent neural networks" (target
    replication), https://arxiv.org/abs/1511.03677; Ng et al. 2015, "Beyond short snippets: deep networks for video
    classification" (a gain that rises linearly over the frames), https://arxiv.org/abs/1503.08909
    """

    def __init__(
        self,
        weights="all",
        from_logits=True,
        reduction="sum_over_batch_size",
        name="framewise_cross_entropy",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=loss_dtype(dtype))
        if weights not in WEIGHTS:
            raise ValueError(f"`weights` must be one of {', '.join(WEIGHTS)}. Received: {weights!r}")
        self.weights = weights
        self.from_logits = from_logits

    def __call__(self, y_true, y_pred, sample_weight=None):
        y_true, (y_pred, mask) = dense(y_true, -1, "int32")[0], with_mask(y_pred)
        if sample_weight is not None:
            sample_weight = ops.convert_to_tensor(sample_weight)
            require_weights(sample_weight.shape, of=y_pred.shape[:1])
        if mask is not None:  # [B, T]; Keras would multiply it by the losses [B]
            y_true = ops.where(mask, _for_every_step(y_true, y_pred), -1)
            y_pred = ops.where(ops.expand_dims(mask, -1), y_pred, 1.0)
        loss = super().__call__(y_true, y_pred, sample_weight)
        return loss_over_replicas(loss, self.reduction, ops.shape(y_pred)[0], sample_weight)

    def call(self, y_true, y_pred):
        y_true = _for_every_step(y_true, y_pred)
        counts = y_true >= 0
        # NaN times a weight of 0 would be NaN.
        y_pred = ops.where(ops.expand_dims(counts, -1), y_pred, 1.0)
        losses = ops.sparse_categorical_crossentropy(ops.maximum(y_true, 0), y_pred, from_logits=self.from_logits)
        weights = ops.cast(counts, losses.dtype)
        if self.weights != "all":
            number = ops.cumsum(weights, axis=1)  # 1 for the first valid step
            last = number == ops.sum(weights, axis=1, keepdims=True)
            weights = weights * (number if self.weights == "ramp" else ops.cast(last, losses.dtype))
        return ops.divide_no_nan(ops.sum(weights * losses, axis=1), ops.sum(weights, axis=1))

    def get_config(self):
        return {**super().get_config(), "weights": self.weights, "from_logits": self.from_logits}


def _for_every_step(y_true, y_pred):
    """Returns the targets as int32 `[B, T]`."""
    y_true = ops.cast(y_true, "int32")
    if len(y_pred.shape) != 3 or len(y_true.shape) not in (1, 2):
        raise ValueError(f"Expected y_true [B, T] or [B], y_pred [B, T, V]. Received: {y_true.shape}, {y_pred.shape}")
    y_true = y_true if len(y_true.shape) == 2 else ops.expand_dims(y_true, 1)
    rows, steps = y_true.shape
    # Unknown dimensions are None; a single row would be broadcast to all rows.
    if (None not in (rows, y_pred.shape[0]) and rows != y_pred.shape[0]) or (
        None not in (steps, y_pred.shape[1]) and steps not in (1, y_pred.shape[1])
    ):
        raise ValueError(f"Expected y_true [B, T], [B, 1] or [B]. Received: {y_true.shape}, y_pred {y_pred.shape}")
    return ops.broadcast_to(y_true, ops.shape(y_pred)[:2])
