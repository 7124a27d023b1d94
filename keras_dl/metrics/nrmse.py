"""Normalised root mean squared error of forecasts."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_dl")
class NRMSE(keras.metrics.Metric):
    """Root mean squared error divided by the standard deviation of the targets; predicting their mean scores 1.

    Sums are accumulated over all batches, so error and deviation are those of the whole corpus. Each variable, an entry
    of the last axis, is normalised by its own deviation, and the squares of these ratios are averaged; the score does
    not depend on the units of the variables.

    Args:
        name: str. Defaults to `"nrmse"`.
        dtype: as for every Keras metric.

    Call arguments:
        y_true: tensor `[..., D]`.
        y_pred: tensor `[..., D]`. Masked positions do not count.
        sample_weight: tensor of the leading axes, optional. Positions with weight 0 are ignored, even if they are NaN.

    Example:

    >>> import numpy as np
    >>> metric = NRMSE()
    >>> metric.update_state(np.array([[0.0], [20.0]]), np.array([[1.0], [19.0]]))
    >>> round(float(metric.result()), 6)                         # errors of 1, standard deviation 10
    0.1
    """

    def __init__(self, name="nrmse", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.sums = None

    def update_state(self, y_true, y_pred, sample_weight=None):
        mask = getattr(y_pred, "_keras_mask", None)
        y_true, y_pred = ops.convert_to_tensor(y_true, self.dtype), ops.convert_to_tensor(y_pred, self.dtype)
        if self.sums is None:
            names = ("weights", "means", "deviations", "errors")
            self.sums = [self.add_variable((y_pred.shape[-1],), initializer="zeros", name=name) for name in names]
        weight = ops.ones_like(y_true[..., 0])
        for given in (sample_weight, mask):
            if given is not None:
                given = ops.cast(given, self.dtype)
                while len(given.shape) < len(weight.shape):
                    given = ops.expand_dims(given, -1)
                weight *= given
        weight = ops.expand_dims(weight, -1)
        y_true, y_pred = ops.where(weight > 0, y_true, 0.0), ops.where(weight > 0, y_pred, 0.0)
        axes = tuple(range(len(y_true.shape) - 1))

        # Combines the means and squared deviations of two sets (Chan et al. 1979), which avoids subtracting large sums.
        weights, means, deviations, errors = self.sums
        added = ops.sum(weight * ops.ones_like(y_true), axis=axes)
        mean = ops.divide_no_nan(ops.sum(weight * y_true, axis=axes), added)
        total = weights + added
        step = mean - means
        deviations.assign_add(
            ops.sum(weight * ops.square(y_true - mean), axis=axes)
            + ops.square(step) * ops.divide_no_nan(weights * added, total)
        )
        means.assign_add(step * ops.divide_no_nan(added, total))
        weights.assign(total)
        errors.assign_add(ops.sum(weight * ops.square(y_true - y_pred), axis=axes))

    def result(self):
        if self.sums is None:
            return ops.zeros((), self.dtype)
        _, _, deviations, errors = self.sums
        # If the targets are constant, any error is infinitely large.
        ratios = ops.where(errors == 0, 0.0, errors / ops.maximum(deviations, 0.0))
        return ops.sqrt(ops.mean(ratios))
