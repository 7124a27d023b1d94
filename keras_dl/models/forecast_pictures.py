"""Plots of forecasts, their errors, and reservoir spectra."""

import matplotlib.pyplot as plt
import numpy as np


def forecast_picture(forecasts, truth, context=None):
    """Plots the forecasts of several models against the truth.

    Args:
        forecasts: `{name: [steps, D]}`; each forecast gets one row per variable, for at most the first 3 variables.
        truth: float array `[steps, D]`.
        context: float array `[T, D]`, the steps before the forecast; or None (default).

    Returns:
        A matplotlib figure.

    Example:

    >>> wave = np.sin(np.arange(100) / 5)[:, None]
    >>> len(forecast_picture({"too late": np.roll(wave, 1), "right": wave}, wave).axes)
    2
    """
    variables = min(truth.shape[1], 3)
    rows = [(name, column) for name in forecasts for column in range(variables)]
    figure, axes = plt.subplots(
        len(rows), figsize=(11, 1.2 + 1.4 * len(rows)), sharex=True, squeeze=False, layout="constrained"
    )
    steps = np.arange(1, len(truth) + 1)
    for axis, (name, column) in zip(axes[:, 0], rows, strict=True):
        low, high = truth[:, column].min(), truth[:, column].max()
        if context is not None:
            axis.plot(np.arange(1 - len(context), 1), context[:, column], color="0.5", linewidth=1)
        axis.plot(steps, truth[:, column], color="0.5", linewidth=2.5, label="truth")
        axis.plot(steps, forecasts[name][:, column], color="C3", linewidth=1, label="forecast")
        # Limits from the truth: a forecast that diverges would flatten everything else.
        axis.set_ylim(low - 0.4 * (high - low), high + 0.4 * (high - low))
        axis.set_ylabel(name if variables == 1 else f"{name}\nvariable {column + 1}")
        axis.axvline(0.5, color="0.8", linewidth=1)
    axes[0, 0].legend(ncols=2, fontsize=8, loc="upper right")
    axes[-1, 0].set_xlabel("steps ahead")
    return figure


def growth_picture(growths, horizons, threshold=0.4):
    """Plots the errors of several models against the number of steps ahead, on a log scale.

    Args:
        growths: `{name: [steps]}`, from `error_growth`.
        horizons: `{name: float}`, from `valid_horizon`, for the legend.
        threshold: float, the error that ends the valid horizon. Defaults to 0.4.

    Returns:
        A matplotlib figure.

    Example:

    >>> figure = growth_picture({"persistence": np.linspace(0.1, 1.4, 84)}, {"persistence": 19.0})
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['persistence: valid for 19 steps']
    """
    figure, axis = plt.subplots(figsize=(9, 4.5), layout="constrained")
    finite = [growth[np.isfinite(growth) & (growth > 0)] for growth in growths.values()]
    for name, growth in growths.items():
        axis.plot(np.arange(1, len(growth) + 1), growth, label=f"{name}: valid for {horizons[name]:.0f} steps")
    axis.axhline(threshold, color="0.4", linewidth=1, linestyle="--")
    lowest = min((part.min() for part in finite if len(part)), default=1e-3)
    axis.set(yscale="log", ylim=(lowest / 2, 10), xlabel="steps ahead", ylabel="NRMSE over all starts", xlim=(0, None))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=9, loc="lower right")
    return figure


def spectrum_picture(kernel):
    """Plots the eigenvalues of recurrent weights, with the unit circle and a circle at the spectral radius.

    Args:
        kernel: float array `[N, N]`.

    Returns:
        A matplotlib figure.

    Example:

    >>> spectrum_picture(np.diag([0.5, -0.8])).axes[0].get_title()
    '2 eigenvalues, spectral radius 0.8'
    """
    values = np.linalg.eigvals(np.asarray(kernel, np.float64))
    radius = np.abs(values).max()
    figure, axis = plt.subplots(figsize=(5, 5.4), layout="constrained")
    angle = np.linspace(0, 2 * np.pi, 400)
    axis.plot(np.cos(angle), np.sin(angle), color="0.4", linewidth=1, linestyle="--", label="unit circle")
    axis.plot(radius * np.cos(angle), radius * np.sin(angle), color="C3", linewidth=1, label="spectral radius")
    axis.scatter(values.real, values.imag, s=8, color="C0", linewidths=0)
    axis.set(aspect="equal", xlabel="real part", ylabel="imaginary part")
    axis.set_title(f"{len(values)} eigenvalues, spectral radius {radius:.3g}", fontsize=10)
    axis.legend(fontsize=8, loc="upper right")
    axis.grid(alpha=0.3)
    return figure
