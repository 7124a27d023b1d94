"""Pictures of a search."""

import math

import matplotlib.pyplot as plt
import numpy as np


def parallel_coordinates(trials: list[dict], objective: str, direction: str, logarithmic=()):
    """One axis a hyperparameter and one for the objective, one line a trial; the better, the darker.

    Args:
        trials: for each trial its values and, under the objective's name, its score.
        objective: str.
        direction: `"min"` or `"max"`.
        logarithmic: names of hyperparameters searched on a log scale.

    Returns:
        A matplotlib figure. Values that never changed are left out.
    """
    known = dict.fromkeys(name for trial in trials for name in trial if name != objective)
    names = [name for name in known if len({str(trial.get(name)) for trial in trials}) > 1] + [objective]
    figure, axis = plt.subplots(figsize=(1.8 * max(len(names), 2) + 1, 4.5), layout="constrained")
    heights = np.zeros((len(trials), len(names)))
    for column, name in enumerate(names):
        places, labels = _scale([trial.get(name) for trial in trials], name in logarithmic)
        heights[:, column] = places
        axis.axvline(column, color="0.8", zorder=0)
        for place, label in labels:
            axis.text(column + 0.04, place + 0.025, label, fontsize=8, color="0.35", va="center")
    scores = np.array([trial[objective] for trial in trials])
    worst_first = np.argsort(-scores if direction == "min" else scores)
    colours = plt.get_cmap("viridis_r")(np.linspace(0.05, 1, len(trials)))
    for rank, index in enumerate(worst_first):
        best = rank == len(trials) - 1
        axis.plot(heights[index], color=colours[rank], linewidth=3 if best else 1.5, marker="o", markersize=4)
    axis.set_xticks(range(len(names)), names)
    axis.set_xlim(-0.2, len(names) - 0.6)
    axis.set_yticks([])
    axis.set_title(f"{len(trials)} trials; the thick line is the best", fontsize=10)
    for side in axis.spines.values():
        side.set_visible(False)
    return figure


def _scale(values, logarithmic):
    """Heights from 0 to 1, and (height, label) to write beside the axis. Words are spaced evenly in sorted order."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        numbers = [math.log(value) if logarithmic and value > 0 else float(value) for value in values]
        low, high = min(numbers), max(numbers)
        places = [(number - low) / (high - low) if high > low else 0.5 for number in numbers]
        shown = {0.0: min(values), 1.0: max(values)} if high > low else {0.5: values[0]}
        return places, [(place, f"{value:.4g}") for place, value in shown.items()]
    words = sorted({str(value) for value in values})
    step = 1 / max(len(words) - 1, 1)
    return [words.index(str(value)) * step for value in values], [(i * step, word) for i, word in enumerate(words)]
