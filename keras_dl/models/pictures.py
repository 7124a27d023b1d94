"""Plots of forecasts, reservoir spectra, recognized speech and attention alignments."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import PercentFormatter


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


@dataclasses.dataclass(frozen=True, eq=False)
class Heard:
    """One recording and a model's output for it.

    Args:
        title: str.
        spectrogram: float array `[frames, bands]`; frame n is centered on `n * hop`.
        hop: float, seconds between frames of the spectrogram.
        posteriors: float array `[output frames, classes]`; frame n is centered on `n * step`.
        step: float, seconds between output frames.
        classes: list of str, the class names; the blank is "".
        labels: list of str, the true labels.
        start, end: float arrays `[labels]`, seconds.
        right: bool, whether the model recognized the true labels.
    """

    title: str
    spectrogram: np.ndarray
    hop: float
    posteriors: np.ndarray
    step: float
    classes: list
    labels: list
    start: np.ndarray
    end: np.ndarray
    right: bool = True


def recognition_picture(recordings):
    """Plots each spectrogram above the label probabilities, with the alignment of the true labels.

    Args:
        recordings: list of `Heard`.

    Returns:
        A matplotlib figure.

    Example:

    >>> spectrogram, posteriors, when = np.zeros((40, 20)), np.full((10, 2), 0.5), np.array([0.1])
    >>> heard = Heard("7", spectrogram, 0.01, posteriors, 0.04, ["", "7"], ["7"], when, when + 0.1)
    >>> len(recognition_picture([heard]).axes)
    2
    """
    count = len(recordings)
    figure, axes = plt.subplots(
        2 * count, figsize=(9, 3.4 * count), height_ratios=[2, 1] * count, layout="constrained", squeeze=False
    )
    for heard, spectrum, posterior in zip(recordings, axes[::2, 0], axes[1::2, 0], strict=True):
        frames, bands = heard.spectrogram.shape
        extent = (-0.5 * heard.hop, (frames - 0.5) * heard.hop, 0, bands)
        spectrum.imshow(heard.spectrogram.T, origin="lower", aspect="auto", cmap="magma", extent=extent)
        spectrum.set_title(heard.title, loc="left", fontsize=10, color="black" if heard.right else "red")
        spectrum.set(ylabel="mel band", xticks=[], xlim=(0, frames * heard.hop))
        times = np.arange(len(heard.posteriors)) * heard.step
        for number, name in enumerate(heard.classes):
            color = f"C{(number - 1) % 10}" if name else "0.75"
            posterior.plot(times, heard.posteriors[:, number], color=color, linewidth=1.5 if name else 1)
        for label, start, end in zip(heard.labels, heard.start, heard.end, strict=True):
            color = f"C{(heard.classes.index(label) - 1) % 10}"
            posterior.axvspan(start, end, color=color, alpha=0.2, linewidth=0)
            posterior.text((start + end) / 2, 1.06, label, color=color, ha="center", weight="bold")
            spectrum.axvline((start + end) / 2, color="white", linewidth=0.7, linestyle=":")
        posterior.set(xlim=(0, frames * heard.hop), ylim=(0, 1.3), yticks=[0, 0.5, 1], ylabel="probability")
        posterior.yaxis.set_major_formatter(PercentFormatter(1))
    axes[-1, 0].set_xlabel("seconds (gray: blank; shaded: aligned labels)")
    return figure


def alignment_picture(examples, columns=2):
    """Plots alignments as heat maps: output symbols as rows, source symbols as columns.

    Args:
        examples: list of `(title, source, output, alignment)`: str, list of S str, list of T str, float array
            `[T, S]`. A larger array is cropped.
        columns: int, heat maps per row of the figure. Defaults to 2.

    Returns:
        A matplotlib figure.

    Example:

    >>> figure = alignment_picture([("zwei = two", list("zwei"), list("two"), np.eye(3, 4))])
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['t', 'w', 'o']
    """
    columns = min(columns, len(examples))
    rows = -(-len(examples) // columns)
    longest = max(len(output) for _, _, output, _ in examples)
    size = (6.5 * columns, rows * max(2.0, 0.16 * longest + 1))
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for axis in axes.flat[len(examples) :]:
        axis.set_axis_off()
    for axis, (title, source, output, alignment) in zip(axes.flat, examples, strict=False):
        axis.imshow(np.asarray(alignment)[: len(output), : len(source)], cmap="Greens", vmin=0, vmax=1, aspect="auto")
        upright = max(map(len, source), default=0) < 2
        axis.set_xticks(range(len(source)), source, fontsize=8, rotation=0 if upright else 90)
        axis.set_yticks(range(len(output)), output, fontsize=8)
        axis.xaxis.tick_top()
        axis.tick_params(length=0)
        axis.set_title(title, fontsize=10)
    return figure
