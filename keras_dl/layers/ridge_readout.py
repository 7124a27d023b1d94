"""Linear readout with a closed-form solution."""

import keras
import numpy as np
from keras import ops

from keras_dl.ops.checks import require_count
from keras_dl.ops.ridge import RidgeStatistics


@keras.saving.register_keras_serializable("keras_dl")
class RidgeReadout(keras.layers.Layer):
    """A linear layer fitted by ridge regression instead of gradient descent.

        y = z W + c,    W = argmin sum_n |y_n - z_n W - c|^2 + alpha |W|^2

    `partial_fit` adds data in any number of parts; `solve` sets the weights. Sums and solution are computed in float64,
    regardless of the dtype of the data. The intercept c is not penalized, so shifting the data does not change the fit.

    Args:
        units: int, K, number of targets.
        alpha: float >= 0, or a list of them, from which `solve` selects the best on validation data. Defaults to 1e-6.
        **kwargs: base layer keyword arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: float tensor `[..., F]`.

    Output shape:
        `[..., K]`.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> features = np.random.default_rng(0).normal(size=(100, 3))
    >>> readout = RidgeReadout(1, alpha=[1e-6, 10.0])
    >>> readout.partial_fit(features, features @ [[1.0], [2.0], [3.0]] + 4)
    >>> readout.solve(validation=[(features, features @ [[1.0], [2.0], [3.0]] + 4)])
    1e-06
    >>> ops.convert_to_numpy(readout(np.array([[0.0, 0.0, 1.0]]))).round(3)
    array([[7.]], dtype=float32)

    Reference: Hoerl and Kennard 1970, "Ridge regression"; for reservoirs: Lukosevicius 2012, "A practical guide to
    applying echo state networks", eq. 9.
    """

    def __init__(self, units, alpha=1e-6, **kwargs):
        super().__init__(**kwargs)
        alphas = np.atleast_1d(np.asarray(alpha, "float64"))
        if alphas.ndim != 1 or not alphas.size or not (np.isfinite(alphas) & (alphas >= 0)).all():
            raise ValueError(f"`alpha` must be a number of at least 0, or a list of them. Received: {alpha!r}")
        self.units = require_count("units", units)
        self.alpha = np.asarray(alpha, "float64").tolist()
        self.statistics = None

    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], self.units), "zeros", trainable=False, name="kernel")
        self.bias = self.add_weight((self.units,), "zeros", trainable=False, name="bias")
        self.input_spec = keras.layers.InputSpec(axes={-1: input_shape[-1]})

    def call(self, inputs):
        return ops.matmul(ops.cast(inputs, self.compute_dtype), self.kernel) + self.bias

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def partial_fit(self, features, targets, sample_weight=None):
        """Adds rows to the data that `solve` fits.

        Args:
            features: float array `[n, F]`.
            targets: float array `[n, K]`.
            sample_weight: float array `[n]` of weights >= 0. Defaults to None: all 1.

        Raises:
            ValueError: if shapes do not match or a number is not finite; in that case, nothing is added.
        """
        features, targets = np.asarray(features), np.asarray(targets)
        if features.ndim != 2 or targets.shape != (len(features), self.units):
            raise ValueError(
                f"Expected features [n, F] and targets [n, {self.units}]. Received: shapes {features.shape} and "
                f"{targets.shape}"
            )
        if self.built and features.shape[1] != self.kernel.shape[0]:
            raise ValueError(f"Expected {self.kernel.shape[0]} features. Received: shape {features.shape}")
        for name, array in (("features", features), ("targets", targets)):
            if not np.isfinite(array).all():
                raise ValueError(f"Expected finite {name}. Received: {array[~np.isfinite(array)][0]}")
        weights = np.ones(len(features)) if sample_weight is None else np.asarray(sample_weight, "float64")
        if weights.shape != (len(features),) or not (np.isfinite(weights) & (weights >= 0)).all():
            raise ValueError(f"Expected {len(features)} weights of at least 0. Received: {sample_weight!r}")
        if not self.built:
            self.build(features.shape)
            self.built = True
        if self.statistics is None:
            self.statistics = RidgeStatistics(features.shape[1], self.units)
        self.statistics.add(features, targets, sample_weight)

    def solve(self, validation=None):
        """Sets the weights from all rows added so far and returns the selected alpha.

        Args:
            validation: iterable of `(features, targets)` or `(features, targets, sample_weight)`, used to select the
                alpha with the smallest squared error. Required if there are several.

        Raises:
            ValueError: without rows, without validation data for several alphas, or if the features are linearly
                dependent and alpha is 0; the weights then stay unchanged.
        """
        alphas = np.atleast_1d(self.alpha)
        if self.statistics is None:
            raise ValueError("Expected data from `partial_fit` before `solve`. Received: none")
        if len(alphas) > 1 and validation is None:
            raise ValueError(f"Expected validation data to choose among {len(alphas)} alphas. Received: none")
        kernels, biases = self.statistics.solve(alphas.tolist())
        best = 0
        if len(alphas) > 1:
            best = int(np.argmin(_squared_errors(kernels, biases, validation)))
        self.kernel.assign(kernels[best])
        self.bias.assign(biases[best])
        return float(alphas[best])

    def get_config(self):
        return {**super().get_config(), "units": self.units, "alpha": self.alpha}


def _squared_errors(kernels, biases, validation):
    """Computes the sum of squared errors of each alpha, `[A]`."""
    wide = kernels.transpose(1, 0, 2).reshape(kernels.shape[1], -1)
    total = None
    for features, targets, *weights in validation:
        outputs = (np.asarray(features, "float64") @ wide).reshape(len(features), *biases.shape) + biases
        errors = np.square(outputs - np.asarray(targets, "float64")[:, None]).sum(axis=-1)
        part = weights[0] @ errors if weights and weights[0] is not None else errors.sum(axis=0)
        total = part if total is None else total + part
    if total is None:
        raise ValueError("Expected validation data with at least one row. Received: none")
    return total
