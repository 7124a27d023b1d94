"""Free-running forecasts: error measures and two baseline forecasters, in NumPy.

A forecaster is a function of `(context [S, T, D], steps)` that returns `[S, steps, D]`, the continuation of each of S
contexts, computed step by step from its own outputs.
"""

import numpy as np


def free_runs(forecaster, series, starts, context, steps):
    """Lets a forecaster run freely from many positions of a series and measures its errors.

    Args:
        forecaster: function of `(context [S, T, D], steps)` that returns `[S, steps, D]`.
        series: float array `[T, D]`, not seen in training.
        starts: int, the number of positions, spread evenly over the series.
        context: int, the number of steps before each position that the forecaster reads.
        steps: int, the number of steps to forecast.

    Returns:
        `(forecasts [S, steps, D], truth [S, steps, D], errors [S, steps])`; an error is the root mean square over the
        variables of the differences, in standard deviations of the series.

    Example:

    >>> wave = np.sin(np.arange(500) / 5)[:, None]
    >>> _, _, errors = free_runs(persistence, wave, starts=10, context=20, steps=84)
    >>> errors.shape
    (10, 84)
    """
    places = np.linspace(context, len(series) - steps, starts).astype(int)[:, None]
    truth = series[places + np.arange(steps)]
    forecasts = np.asarray(forecaster(series[places + np.arange(-context, 0)], steps), np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        errors = np.sqrt(np.mean(((forecasts - truth) / series.std(axis=0)) ** 2, axis=-1))
    # A forecast that has diverged does not recover.
    return forecasts, truth, np.where(np.isfinite(errors), errors, np.inf)


def error_growth(errors):
    """Returns the NRMSE at each step ahead, over all starts: `[S, steps]` -> `[steps]`. NRMSE84 is entry 83.

    Example:

    >>> error_growth(np.array([[0.0, 3.0], [0.0, 4.0]])).round(3).tolist()
    [0.0, 3.536]
    """
    with np.errstate(over="ignore"):
        return np.sqrt(np.mean(np.square(errors), axis=0))


def valid_horizon(errors, threshold=0.4):
    """Returns the median number of steps before the error first exceeds the threshold: `[S, steps]` -> float.

    A forecast that never exceeds it counts with all of its steps.

    Example:

    >>> valid_horizon(np.array([[0.1, 0.5, 0.1], [0.1, 0.1, 0.1], [0.5, 0.5, 0.5]]))
    1.0
    """
    beyond = np.asarray(errors) > threshold
    return float(np.median(np.where(beyond.any(axis=1), beyond.argmax(axis=1), beyond.shape[1])))


def nrmse(truth, predicted):
    """Returns the root mean squared error divided by the standard deviation of the truth, `[T, D]` each, like the
    metric `NRMSE`.

    Example:

    >>> nrmse(np.array([[0.0], [20.0]]), np.array([[1.0], [19.0]]))
    0.1
    """
    truth, predicted = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    return float(np.sqrt(np.mean(np.mean(np.square(truth - predicted), axis=0) / truth.var(axis=0))))


def windows(series, length, overlap):
    """Cuts a series into windows of equal length, with the next value of each step as its target.

    Args:
        series: float array `[T, D]`.
        length: int, the maximum number of steps of a window, without the overlap.
        overlap: int, the number of steps that each window repeats from the previous one, to warm up.

    Returns:
        `(inputs, targets)`, each `[N, overlap + length', D]`, with targets one step later. Every step after the first
        `overlap`, except fewer than N at the end, is in exactly one window after its overlap.

    Example:

    >>> inputs, targets = windows(np.arange(10)[:, None], length=4, overlap=1)
    >>> inputs[..., 0].tolist(), targets[..., 0].tolist()
    ([[0, 1, 2, 3, 4], [4, 5, 6, 7, 8]], [[1, 2, 3, 4, 5], [5, 6, 7, 8, 9]])
    """
    steps = len(series) - 1 - overlap
    count = -(-steps // length)
    places = (steps // count) * np.arange(count)[:, None] + np.arange(overlap + steps // count)
    return series[places], series[places + 1]


def persistence(context, steps):
    """Repeats the last value.

    Example:

    >>> persistence(np.array([[[1.0], [2.0]]]), 3)[0, :, 0].tolist()
    [2.0, 2.0, 2.0]
    """
    return np.repeat(context[:, -1:], steps, axis=1)


class LinearAutoregression:
    """Predicts the next value as a linear function of the most recent ones, fitted by least squares.

    Args:
        order: int, the number of most recent values.

    Attributes:
        kernel: float64 `[order * D, D]`, the oldest value first; from `fit`.
        bias: float64 `[D]`.

    Example:

    >>> wave = np.sin(np.arange(200) / 5)[:, None]
    >>> model = LinearAutoregression(order=2).fit(wave[:100])    # exact for a sine
    >>> forecast = model.forecast(wave[None, :100], steps=100)
    >>> bool(np.abs(forecast[0] - wave[100:]).max() < 1e-6)
    True
    """

    def __init__(self, order):
        self.order = order

    def fit(self, series):
        """Fits kernel and bias to a series `[T, D]` and returns itself."""
        lagged, following = self._lagged(series), series[self.order :]
        middle, mean = lagged.mean(axis=0), following.mean(axis=0)
        # Ignores singular values that are rounding errors.
        self.kernel = np.linalg.lstsq(lagged - middle, following - mean, rcond=1e-12)[0]
        self.bias = mean - middle @ self.kernel
        return self

    @classmethod
    def best(cls, train, validation, orders):
        """Returns the model of the order with the best one-step predictions of the validation series."""
        orders = [order for order in orders if order < min(len(train) // 4, len(validation) // 2)]
        models = [cls(order).fit(train) for order in orders]
        return min(models, key=lambda model: nrmse(validation[model.order :], model.predict(validation)[:-1]))

    def predict(self, series):
        """Predicts the next value of a series `[T, D]` after each step from `order - 1`: `[T - order + 1, D]`."""
        return self._lagged(np.concatenate([series, series[:1]])) @ self.kernel + self.bias

    def forecast(self, context, steps):
        """Runs freely: `[S, T, D]` with T >= order -> `[S, steps, D]`."""
        known = list(np.swapaxes(context[:, -self.order :], 0, 1))
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(steps):
                known.append(np.concatenate(known[-self.order :], axis=-1) @ self.kernel + self.bias)
        return np.stack(known[self.order :], axis=1)

    def _lagged(self, series):
        windows = np.lib.stride_tricks.sliding_window_view(series[:-1], self.order, axis=0)  # [N, D, order]
        return np.swapaxes(windows, 1, 2).reshape(len(windows), -1)
