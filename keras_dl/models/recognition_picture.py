"""Plots of what a speech model recognises, over time."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import PercentFormatter


@dataclasses.dataclass(frozen=True, eq=False)
class Heard:
    """One recording and a model's output for it.

    Args:
        title: str.
        spectrogram: float array `[frames, bands]`; frame n is centred on `n * hop`.
        hop: float, seconds between frames of the spectrogram.
        posteriors: float array `[output frames, classes]`; frame n is centred on `n * step`.
        step: float, seconds between output frames.
        classes: list of str, the class names; the blank is "".
        labels: list of str, the true labels.
        start, end: float arrays `[labels]`, seconds.
        right: bool, whether the model recognised the true labels.
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
            colour = f"C{(number - 1) % 10}" if name else "0.75"
            posterior.plot(times, heard.posteriors[:, number], color=colour, linewidth=1.5 if name else 1)
        for label, start, end in zip(heard.labels, heard.start, heard.end, strict=True):
            colour = f"C{(heard.classes.index(label) - 1) % 10}"
            posterior.axvspan(start, end, color=colour, alpha=0.2, linewidth=0)
            posterior.text((start + end) / 2, 1.06, label, color=colour, ha="center", weight="bold")
            spectrum.axvline((start + end) / 2, color="white", linewidth=0.7, linestyle=":")
        posterior.set(xlim=(0, frames * heard.hop), ylim=(0, 1.3), yticks=[0, 0.5, 1], ylabel="probability")
        posterior.yaxis.set_major_formatter(PercentFormatter(1))
    axes[-1, 0].set_xlabel("seconds (grey: blank; shaded: aligned labels)")
    return figure
