"""Forecasts of a series by themselves: the measures, and the two simplest ways to make one, in NumPy.

A forecaster here is a function of `(context [S, T, D], steps)` that returns `[S, steps, D]`: what follows each of S
contexts, made step by step from its own outputs.
"""

import numpy as np


def free_runs(forecaster, series, starts, context, steps):
    """Lets a forecaster go on by itself from many places of a series and measures how far it gets.

    Args:
        forecaster: function of `(context [S, T, D], steps)` that returns `[S, steps, D]`.
        series: float array `[T, D]`, not seen in training.
        starts: int, the number of places, spread evenly over the series.
        context: int, the steps before each place, which the forecaster reads.
        steps: int, to forecast.

    Returns:
        `(forecasts [S, steps, D], truth [S, steps, D], errors [S, steps])`; an error is the root mean square, over the
        variables, of the difference in standard deviations of the series.

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
    # What has left every bound comes back no more.
    return forecasts, truth, np.where(np.isfinite(errors), errors, np.inf)


def error_growth(errors):
    """NRMSE at each step ahead, over all starts: `[S, steps]` -> `[steps]`. NRMSE84 is the entry 83.

    Example:

    >>> error_growth(np.array([[0.0, 3.0], [0.0, 4.0]])).round(3).tolist()
    [0.0, 3.536]
    """
    with np.errstate(over="ignore"):
        return np.sqrt(np.mean(np.square(errors), axis=0))


def valid_horizon(errors, threshold=0.4):
    """Steps before the error first exceeds the threshold, the median over the starts: `[S, steps]` -> float.

    A forecast that never does counts with all of its steps.

    Example:

    >>> valid_horizon(np.array([[0.1, 0.5, 0.1], [0.1, 0.1, 0.1], [0.5, 0.5, 0.5]]))
    1.0
    """
    beyond = np.asarray(errors) > threshold
    return float(np.median(np.where(beyond.any(axis=1), beyond.argmax(axis=1), beyond.shape[1])))


def nrmse(truth, predicted):
    """Root mean squared error over the standard deviation of the truth, `[T, D]` each; as the metric `NRMSE`.

    Example:

    >>> nrmse(np.array([[0.0], [20.0]]), np.array([[1.0], [19.0]]))
    0.1
    """
    truth, predicted = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    return float(np.sqrt(np.mean(np.mean(np.square(truth - predicted), axis=0) / truth.var(axis=0))))


def windows(series, length, overlap):
    """Cuts a series into windows of one length, each with what follows every step of it.

    Args:
        series: float array `[T, D]`.
        length: int, steps of a window beside the overlap, at most.
        overlap: int, the steps that a window repeats of the one before, to warm up.

    Returns:
        `(inputs, targets)`, each `[N, overlap + length', D]`, targets one step later. But for fewer than N at the end,
        every step after the first `overlap` stands behind the overlap of one window.

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
    """Tomorrow is like today: the last value, repeated.

    Example:

    >>> persistence(np.array([[[1.0], [2.0]]]), 3)[0, :, 0].tolist()
    [2.0, 2.0, 2.0]
    """
    return np.repeat(context[:, -1:], steps, axis=1)


class LinearAutoregression:
    """The next value as a linear function of the last ones, by least squares.

    Args:
        order: int, how many of the last values.

    Attributes:
        kernel: float64 `[order * D, D]`, the oldest value first; from `fit`.
        bias: float64 `[D]`.

    Example:

    >>> wave = np.sin(np.arange(200) / 5)[:, None]
    >>> model = LinearAutoregression(order=2).fit(wave[:100])    # a sine obeys such a rule exactly
    >>> forecast = model.forecast(wave[None, :100], steps=100)
    >>> bool(np.abs(forecast[0] - wave[100:]).max() < 1e-6)
    True
    """

    def __init__(self, order):
        self.order = order

    def fit(self, series):
        """Finds kernel and bias from a series `[T, D]`; returns itself."""
        lagged, following = self._lagged(series), series[self.order :]
        middle, mean = lagged.mean(axis=0), following.mean(axis=0)
        # Singular values that are rounding errors are left out.
        self.kernel = np.linalg.lstsq(lagged - middle, following - mean, rcond=1e-12)[0]
        self.bias = mean - middle @ self.kernel
        return self

    @classmethod
    def best(cls, train, validation, orders):
        """The model of that order which predicts one step of the validation series best."""
        orders = [order for order in orders if order < min(len(train) // 4, len(validation) // 2)]
        models = [cls(order).fit(train) for order in orders]
        return min(models, key=lambda model: nrmse(validation[model.order :], model.predict(validation)[:-1]))

    def predict(self, series):
        """What follows each step of a series `[T, D]`, from the step `order - 1` on: `[T - order + 1, D]`."""
        return self._lagged(np.concatenate([series, series[:1]])) @ self.kernel + self.bias

    def forecast(self, context, steps):
        """A free run: `[S, T, D]` with T >= order -> `[S, steps, D]`."""
        known = list(np.swapaxes(context[:, -self.order :], 0, 1))
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(steps):
                known.append(np.concatenate(known[-self.order :], axis=-1) @ self.kernel + self.bias)
        return np.stack(known[self.order :], axis=1)

    def _lagged(self, series):
        windows = np.lib.stride_tricks.sliding_window_view(series[:-1], self.order, axis=0)  # [N, D, order]
        return np.swapaxes(windows, 1, 2).reshape(len(windows), -1)
