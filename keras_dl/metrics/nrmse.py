"""Normalized root mean squared error of forecasts."""

import keras
from keras import ops

from keras_dl.ops.checks import require_shape
from keras_dl.ops.dense import with_mask
from keras_dl.ops.precision import loss_dtype
from keras_dl.ops.replicas import place_among_replicas


@keras.saving.register_keras_serializable("keras_dl")
class NRMSE(keras.metrics.Metric):
    """Root mean squared error divided by the standard deviation of the targets; predicting their mean scores 1.

    Sums are accumulated over all batches and replicas, so error and deviation are those of the whole corpus. Each
    variable, an entry of the last axis, is normalized by its own deviation, and the squares of these ratios are
    averaged; the score does not depend on the units of the variables.

    Args:
        name: str. Defaults to `"nrmse"`.
        dtype: as for every Keras metric, except that half precision becomes float32.

    Call arguments:
        y_true: tensor `[..., D]`; if D is 1, also `[...]`.
        y_pred: tensor `[..., D]`, or `[N]` for one variable. Masked positions do not count.
        sample_weight: tensor of the leading axes, optional. Positions with weight 0 are ignored, even if they are NaN.

    Raises:
        ValueError: if shapes do not match.

    Example:

    >>> import numpy as np
    >>> metric = NRMSE()
    >>> metric.update_state(np.array([[0.0], [20.0]]), np.array([[1.0], [19.0]]))
    >>> round(float(metric.result()), 6)                         # errors of 1, standard deviation 10
    0.1
    """

    def __init__(self, name="nrmse", dtype=None):
        super().__init__(name=name, dtype=loss_dtype(dtype))
        self.sums = None

    def update_state(self, y_true, y_pred, sample_weight=None):
        (y_true, known), (y_pred, mask) = with_mask(y_true), with_mask(y_pred)
        y_true, y_pred = ops.cast(y_true, self.dtype), ops.cast(y_pred, self.dtype)
        y_pred = ops.expand_dims(y_pred, -1) if len(y_pred.shape) == 1 else y_pred
        y_true = ops.expand_dims(y_true, -1) if len(y_true.shape) in (1, len(y_pred.shape) - 1) else y_true
        require_shape("y_true", y_true.shape, y_pred.shape)
        place, replicas = place_among_replicas()
        if self.sums is None:
            # Keras adds the variables of all replicas when it reads them, which is wrong for means; a row for each
            # replica, zeros in the others, keeps them apart.
            shape = (replicas, 4, y_pred.shape[-1])
            self.sums = self.add_variable(shape, initializer="zeros", dtype=self.dtype, name="sums")
        require_shape("y_pred", y_pred.shape, (*y_pred.shape[:-1], self.sums.shape[-1]))
        weight = ops.ones_like(y_true[..., 0])
        for given in (sample_weight, mask, known):
            if given is not None:
                given = ops.cast(given, self.dtype)
                if len(given.shape) == len(weight.shape) + 1 and given.shape[-1] == 1:  # [B, 1] would be broadcast
                    given = ops.squeeze(given, -1)
                leading = [weight.shape[:rank] for rank in range(len(weight.shape) + 1)]
                require_shape("sample_weight", given.shape, *leading, (*weight.shape[:1], 1))
                while len(given.shape) < len(weight.shape):
                    given = ops.expand_dims(given, -1)
                weight = weight * given
        weight = ops.expand_dims(weight, -1)
        y_true, y_pred = ops.where(weight > 0, y_true, 0.0), ops.where(weight > 0, y_pred, 0.0)
        axes = tuple(range(len(y_true.shape) - 1))
        added = ops.sum(weight * ops.ones_like(y_true), axis=axes)
        mean = ops.divide_no_nan(ops.sum(weight * y_true, axis=axes), added)
        deviations = ops.sum(weight * ops.square(y_true - mean), axis=axes)
        errors = ops.sum(weight * ops.square(y_true - y_pred), axis=axes)
        batch = ops.stack([added, mean, deviations, errors])
        own = ops.reshape(ops.arange(replicas, dtype="int32") == place, (-1, 1, 1))
        sums = ops.convert_to_tensor(self.sums)
        both = ops.stack([ops.sum(ops.where(own, sums, 0.0), axis=0), batch])
        self.sums.assign(ops.where(own, _merged(both), sums))

    def result(self):
        if self.sums is None:
            return ops.zeros((), self.dtype)
        _, _, deviations, errors = ops.unstack(_merged(ops.convert_to_tensor(self.sums)))
        # If the targets are constant, any error is infinitely large.
        ratios = ops.where(errors == 0, 0.0, errors / ops.maximum(deviations, 0.0))
        return ops.sqrt(ops.mean(ratios))


def _merged(sums):
    """Combines the weights, means, squared deviations and squared errors of several sets, `[N, 4, D]` -> `[4, D]`.

    It avoids the difference of large sums (Chan et al. 1979).
    """
    weights, means, deviations, errors = ops.unstack(sums, 4, axis=1)
    total = ops.sum(weights, axis=0)
    mean = ops.sum(ops.divide_no_nan(weights, total) * means, axis=0)
    deviations = ops.sum(deviations + weights * ops.square(means - mean), axis=0)
    return ops.stack([total, mean, deviations, ops.sum(errors, axis=0)])
