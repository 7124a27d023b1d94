"""How much each hyperparameter matters for the score."""

import dataclasses
import warnings

import keras_tuner as kt
import numpy as np
from sklearn.ensemble import RandomForestRegressor

from keras_dl.tuning.results import TrialResult, searched

TRIALS_NEEDED = 8  # below, a forest knows nothing


@dataclasses.dataclass(frozen=True)
class Importance:
    """Shares of the score's variance over the space.

    Args:
        shares: hyperparameter -> what it explains alone, 0 to 1, the largest first.
        interactions: float, what only several together explain.
        explained: float, how well the forest foretells trials that it was not shown (out-of-bag R squared, at most 1).
            At 0 or below the shares mean nothing.
    """

    shares: dict[str, float]
    interactions: float
    explained: float


def importance(results: list[TrialResult], space: kt.HyperParameters, seed: int = 0) -> Importance | None:
    """Functional analysis of variance (Hutter, Hoos and Leyton-Brown 2014, "An Efficient Approach for Assessing
    Hyperparameter Importance", ICML) of a random forest that learned the score from the values.

    A hyperparameter's share is the variance of the forest's mean prediction as a function of it alone, over the
    variance of the prediction itself, both over values drawn as the space draws them: evenly on its scale, logarithmic
    or linear, all choices alike. Means are taken over a Latin hypercube of 256 points. A value that a trial does not
    have, since its condition did not hold, counts as the default. Scores beyond Tukey's fences (1.5 times the range
    between the quartiles) are moved to them, or one diverged trial would decide everything.

    Args:
        results: of the search; completed ones count.
        space: with the ranges.
        seed: int, of the forest; the same results give the same shares. Defaults to 0.

    Returns:
        `Importance`, or None below 8 completed trials, or if all scores, or all values, are the same.
    """
    completed = [one for one in results if one.completed]
    names = searched(completed)
    scores = _fenced(np.array([one.score for one in completed]))
    if len(completed) < TRIALS_NEEDED or not names or np.ptp(scores) == 0:
        return None
    places = np.stack([_places([one.values.get(name) for one in completed], space, name) for name in names], axis=1)
    forest = RandomForestRegressor(100, oob_score=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the rare trial that every tree has seen
        forest.fit(places, scores)
    generator = np.random.default_rng(seed)
    drawn = (np.stack([generator.permutation(256) for _ in names], axis=1) + 0.5) / 256
    total = forest.predict(drawn).var()
    if total == 0:
        return None
    shares = {name: _marginal(forest, drawn, column).var() / total for column, name in enumerate(names)}
    # The points are finitely many: shares of a purely additive score may add up to a little above one.
    scale = max(1.0, sum(shares.values()))
    shares = {name: float(share / scale) for name, share in sorted(shares.items(), key=lambda item: -item[1])}
    return Importance(shares, max(0.0, 1 - sum(shares.values())), float(forest.oob_score_))


def _marginal(forest, drawn, column):
    """The mean prediction at 30 places of one hyperparameter, over all values of the others."""
    grid = (np.arange(30) + 0.5) / 30
    points = np.tile(drawn, (len(grid), 1))
    points[:, column] = np.repeat(grid, len(drawn))
    return forest.predict(points).reshape(len(grid), len(drawn)).mean(1)


def _places(values, space, name):
    """Where values lie between 0 and 1 on the scale that the space draws them from."""
    entries = [entry for entry in space.space if entry.name == name]
    if len(entries) == 1:
        (entry,) = entries
        return np.clip([entry.value_to_prob(entry.default if value is None else value) for value in values], 0, 1)
    # Declared under several conditions with a range each, or not at all: spaced evenly in their own order.
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
