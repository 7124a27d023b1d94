"""The importance of each hyperparameter for the score."""

import dataclasses
import warnings

import keras_tuner as kt
import numpy as np
from sklearn.ensemble import RandomForestRegressor

from keras_dl.tuning.results import TrialResult, searched

TRIALS_NEEDED = 8  # a forest learns nothing from fewer


@dataclasses.dataclass(frozen=True)
class Importance:
    """Shares of the score's variance over the space: of each hyperparameter alone, the largest first, and of
    interactions.

    `explained` is the out-of-bag R squared of the forest, at most 1. At 0 or below, the shares are meaningless.
    """

    shares: dict[str, float]
    interactions: float
    explained: float


def importance(results: list[TrialResult], space: kt.HyperParameters) -> Importance | None:
    """Computes the importance of hyperparameters by functional analysis of variance, from the completed trials.

    A random forest learns the score from the hyperparameters. The share of a hyperparameter is the variance of the
    forest's mean prediction as a function of this hyperparameter alone, divided by the variance of the prediction. Both
    are taken over values drawn as the space draws them: uniform on a logarithmic or linear scale, all choices equally
    likely; means are taken over a Latin hypercube of 256 points. A value that a trial lacks, because its condition did
    not hold, counts as the default. Scores beyond Tukey's fences (1.5 times the interquartile range) are clipped, so
    that a diverged trial does not dominate.

    Returns None for fewer than 8 completed trials, or without any variation.

    Reference: Hutter, Hoos and Leyton-Brown 2014, "An Efficient Approach for Assessing Hyperparameter Importance",
    ICML.
    """
    completed = [one for one in results if one.completed]
    names = searched(completed)
    scores = _fenced(np.array([one.score for one in completed]))
    if len(completed) < TRIALS_NEEDED or not names or np.ptp(scores) == 0:
        return None
    positions = np.stack(
        [_positions([one.values.get(name) for one in completed], space, name) for name in names], axis=1
    )
    forest = RandomForestRegressor(100, oob_score=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about a trial that is in the sample of every tree
        forest.fit(positions, scores)
    generator = np.random.default_rng(0)
    drawn = (np.stack([generator.permutation(256) for _ in names], axis=1) + 0.5) / 256
    total = forest.predict(drawn).var()
    if total == 0:
        return None
    shares = {name: _marginal(forest, drawn, column).var() / total for column, name in enumerate(names)}
    # With finitely many points, the shares of a purely additive score may add up to slightly more than one.
    scale = max(1.0, sum(shares.values()))
    shares = {name: float(share / scale) for name, share in sorted(shares.items(), key=lambda item: -item[1])}
    return Importance(shares, max(0.0, 1 - sum(shares.values())), float(forest.oob_score_))


def _marginal(forest, drawn, column):
    """Returns the mean prediction at 30 positions of one hyperparameter, over the values of the others."""
    grid = (np.arange(30) + 0.5) / 30
    points = np.tile(drawn, (len(grid), 1))
    points[:, column] = np.repeat(grid, len(drawn))
    return forest.predict(points).reshape(len(grid), len(drawn)).mean(1)


def _positions(values, space, name):
    """Returns the positions of values between 0 and 1 on the scale of the space."""
    entries = [entry for entry in space.space if entry.name == name]
    if len(entries) == 1:
        (entry,) = entries
        return np.clip([entry.value_to_prob(entry.default if value is None else value) for value in values], 0, 1)
    # Declared several times with different ranges, or not at all: spaced evenly in sorted order.
    order = sorted(
        set(values), key=lambda value: (isinstance(value, str), value is not None, 0 if value is None else value)
    )
    return np.array([(order.index(value) + 0.5) / len(order) for value in values])


def _fenced(scores):
    if not len(scores):
        return scores
    low, high = np.quantile(scores, [0.25, 0.75])
    reach = 1.5 * (high - low)
    return np.clip(scores, low - reach, high + reach) if reach else scores
