"""Plots of a search."""

import math

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from keras_dl.tuning.report.importance import Importance
from keras_dl.tuning.results import TrialResult, leaderboard

BEST, REST, FAILED = "#440154", "0.72", "#c0392b"
MANY = 40  # trials; above this number, lines are thin and have no markers


def parallel_coordinates(trials: list[dict], objective: str, direction: str, logarithmic=()):
    """Plots one axis per hyperparameter, one for the objective, and one line per trial; better trials are darker.

    `trials` are the values of each trial and, under the objective's name, its score. Hyperparameters with a single
    value are omitted; a missing number is drawn below the axis. Those in `logarithmic` get a log scale.
    """
    known = dict.fromkeys(name for trial in trials for name in trial if name != objective)
    names = [name for name in known if len({str(trial.get(name)) for trial in trials}) > 1] + [objective]
    figure = Figure(figsize=(1.8 * max(len(names), 2) + 1, 4.5), layout="constrained")
    axis = figure.subplots()
    heights = np.zeros((len(trials), len(names)))
    scores = np.array([trial[objective] for trial in trials], float)
    for column, name in enumerate(names):
        wide = name == objective and _wide(scores, direction)
        places, labels = _scale([trial.get(name) for trial in trials], wide or name in logarithmic)
        heights[:, column] = places
        axis.axvline(column, color="0.8", zorder=0)
        for place, label in labels:
            ground = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
            where = (column + 0.04, place + 0.025)
            axis.text(*where, _text(label), fontsize=8, color="0.25", va="center", zorder=4, bbox=ground)
    many = len(trials) > MANY
    if many:  # jitter, so that equal values do not hide each other
        heights[:, :-1] += np.random.default_rng(0).uniform(-0.02, 0.02, (len(trials), len(names) - 1))
    worst_first = np.argsort(-scores if direction == "min" else scores, kind="stable")
    colors = matplotlib.colormaps["viridis_r"](np.linspace(0.05, 1, len(trials)))
    for rank, index in enumerate(worst_first):
        best = rank == len(trials) - 1
        width = 3 if best else 0.6 if many else 1.5
        size = 4 if best or not many else 0
        alpha = 0.6 if many and not best else 1
        axis.plot(heights[index], color=colors[rank], linewidth=width, marker="o", markersize=size, alpha=alpha)
    axis.set_xticks(range(len(names)), [_text(name, 28) for name in names])
    if max(len(name) for name in names) > 16:
        for label in axis.get_xticklabels():
            label.set(rotation=15, horizontalalignment="right", rotation_mode="anchor")
    axis.set_xlim(-0.2, len(names) - 0.6)
    axis.set_yticks([])
    axis.set_title(f"{len(trials)} trials; the thick line is the best", fontsize=10)
    for side in axis.spines.values():
        side.set_visible(False)
    return figure


def _scale(values, logarithmic):
    """Returns heights from 0 to 1 and the labels of the axis as (height, label); words are sorted, evenly spaced."""
    there = [value for value in values if value is not None]
    if there and all(isinstance(value, int | float) and not isinstance(value, bool) for value in there):
        turned = math.log if logarithmic and min(there) > 0 else float
        low, high = turned(min(there)), turned(max(there))
        places = [-0.15 if value is None else _between(turned(value), low, high) for value in values]
        shown = {0.0: min(there), 1.0: max(there)} if high > low else {0.5: there[0]}
        gap = [(-0.15, "None")] if len(there) < len(values) else []
        return places, gap + [(place, f"{value:.4g}") for place, value in shown.items()]
    words = sorted({str(value) for value in values})
    step = 1 / max(len(words) - 1, 1)
    labeled = range(0, len(words), math.ceil(len(words) / 15))
    return [words.index(str(value)) * step for value in values], [(i * step, words[i]) for i in labeled]


def _between(number, low, high):
    return (number - low) / (high - low) if high > low else 0.5


def curves(results: list[TrialResult], objective: str, direction: str):
    """Plots the objective over the epochs: the five best trials in color, the others in gray; NaN leaves a gap."""
    figure = Figure(figsize=(6.6, 4), layout="constrained")
    axis = figure.subplots()
    best = leaderboard(results, direction)[:5]
    size = 2.5 if len(results) <= MANY else 0
    colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, 5))
    for one in results:
        if one not in best:
            _curve(axis, one, color=REST, linewidth=0.8, markersize=size)
    for rank, one in reversed(list(enumerate(best))):
        label = f"trial-{one.number}: {one.shown_score}"
        how = {"color": colors[rank], "linewidth": 2.2 if rank == 0 else 1.4, "markersize": 2.5}
        _curve(axis, one, **how, label=label, zorder=3)
    axis.set(xlabel="epoch", ylabel=_text(objective, 40))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _score_axis(axis, [value for one in results for value in one.curve], direction)
    axis.grid(alpha=0.3)
    if best:
        handles, labels = axis.get_legend_handles_labels()
        axis.legend(handles[::-1], labels[::-1], fontsize=8)
    return figure


def _curve(axis, one, **how):
    epochs = range(one.first_epoch, one.first_epoch + len(one.curve))
    axis.plot(epochs, np.where(np.isfinite(one.curve), one.curve, np.nan), marker="o", **how)


def importance_bars(found: Importance):
    """Plots the share of the variance that each hyperparameter explains; the last bar shows the interactions."""
    bars = {**found.shares, "interactions": found.interactions}
    figure = Figure(figsize=(6.6, 0.32 * len(bars) + 0.7), layout="constrained")
    axis = figure.subplots()
    shares = [100 * share for share in bars.values()]
    axis.barh(range(len(bars)), shares, color=[BEST] * (len(bars) - 1) + [REST], height=0.65)
    for place, share in enumerate(shares):
        axis.text(share + 1, place, f"{share:.0f}%", va="center", fontsize=9)
    axis.set_yticks(range(len(bars)), [_text(name, 40) for name in bars])
    axis.set(xlim=(0, 108), xlabel="share of the score's variance, %")
    axis.invert_yaxis()
    _bare(axis)
    return figure


def times(results: list[TrialResult]):
    """Plots the time of each trial, in the order in which they started; failed trials are red."""
    known = [one for one in results if one.seconds is not None]
    longest = max((one.seconds for one in known), default=0)
    unit, name = (3600, "hours") if longest > 7200 else (60, "minutes") if longest > 120 else (1, "seconds")
    figure = Figure(figsize=(6.6, 2.6), layout="constrained")
    axis = figure.subplots()
    colors = [FAILED if one.status == "FAILED" else BEST if one.completed else REST for one in known]
    width = 0.8 if len(known) <= MANY else 1
    axis.bar([one.number for one in known], [one.seconds / unit for one in known], width, color=colors, alpha=0.8)
    axis.set_xlim(0.4, max((one.number for one in known), default=1) + 0.6)
    axis.set(xlabel="trial (red: failed)" if FAILED in colors else "trial", ylabel=name)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _bare(axis)
    return figure


def slice_of(results: list[TrialResult], name: str, objective: str, direction: str, logarithmic: bool = False):
    """Plots the scores of completed trials over the values of one hyperparameter; later trials are darker."""
    completed = [one for one in results if one.completed and one.values.get(name) is not None]
    values, scores = [one.values[name] for one in completed], [one.score for one in completed]
    figure = Figure(figsize=(3.6, 2.8), layout="constrained")
    axis = figure.subplots()
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if not numeric:
        words = sorted({str(value) for value in values})
        shift = np.random.default_rng(0).uniform(-0.15, 0.15, len(values))  # jitter
        values = [words.index(str(value)) + moved for value, moved in zip(values, shift, strict=True)]
        axis.set_xlim(-0.5, len(words) - 0.5)
        shown = range(0, len(words), math.ceil(len(words) / 8))
        axis.set_xticks(list(shown), [_text(words[i], 12) for i in shown], fontsize=8)
    elif logarithmic and values and min(values) > 0:
        _logarithmic(axis, "x", values)
    order = [one.number for one in completed]
    axis.scatter(values, scores, c=order, cmap="viridis_r", s=18, alpha=0.85)
    axis.set_xlabel(_text(name, 36))
    axis.set_ylabel(_text(objective, 30), fontsize=8)
    _score_axis(axis, scores, direction)
    axis.grid(alpha=0.3)
    return figure


def trade_off(results: list[TrialResult], front: list[TrialResult], one: str, other: str):
    """Plots metric `other` over metric `one`; the trials of the Pareto front are colored and numbered."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axis = figure.subplots()
    beaten = [trial for trial in results if trial.completed and trial not in front]
    for trials, color, size in ((beaten, REST, 16), (front, BEST, 30)):
        both = [trial for trial in trials if one in trial.metrics and other in trial.metrics]
        axis.scatter([t.metrics[one] for t in both], [t.metrics[other] for t in both], color=color, s=size)
    for trial in front[:20]:
        where = (trial.metrics[one], trial.metrics[other])
        axis.annotate(str(trial.number), where, xytext=(4, 4), textcoords="offset points", fontsize=8)
    axis.set(xlabel=_text(one, 40), ylabel=_text(other, 40))
    axis.grid(alpha=0.3)
    return figure


def _score_axis(axis, scores, direction):
    finite = [score for score in scores if math.isfinite(score)]
    if _wide(finite, direction):
        _logarithmic(axis, "y", finite)


def _logarithmic(axis, which, values):
    """Sets a log scale; minor ticks have labels only if the values span less than a decade."""
    getattr(axis, f"set_{which}scale")("log")
    if max(values) / min(values) > 10:
        getattr(axis, f"{which}axis").set_minor_formatter(NullFormatter())


def _wide(scores, direction) -> bool:
    """Returns whether scores need a log scale: they are minimized and positive, and span more than a factor of 20."""
    return direction == "min" and len(scores) > 0 and min(scores) > 0 and max(scores) > 20 * min(scores)


def _bare(axis):
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _text(text, longest=24) -> str:
    """Returns a name or value as a label: shortened, and with dollar signs escaped."""
    text = " ".join(str(text).split())
    return (text if len(text) <= longest else text[: longest - 1] + "…").replace("$", r"\$")
