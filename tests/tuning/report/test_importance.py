"""Importance of hyperparameters, for functions with a known decomposition."""

import math

import keras_tuner as kt
import numpy as np
import pytest

from keras_dl.tuning.report.importance import importance
from keras_dl.tuning.results import TrialResult


@pytest.fixture(scope="module")
def space():
    hp = kt.HyperParameters()
    for name in "abc":
        hp.Float(name, 0.0, 1.0)
    hp.Float("rate", 1e-4, 1.0, sampling="log")
    hp.Choice("cell", ["lstm", "gru", "esn"])
    hp.Int("layers", 1, 3)
    hp.Fixed("filters", 32)
    return hp


def trials(space, score, count, seed=1, noise=0.0):
    """Returns trials with values drawn like those of a random search."""
    generator, made = np.random.default_rng(seed), []
    for number in range(1, count + 1):
        drawn = {entry.name: entry.prob_to_value(generator.uniform()) for entry in space.space[:-1]}
        values = {**drawn, "filters": 32}
        value = float(score(values) + noise * generator.normal())
        made.append(TrialResult(number, f"{number - 1:02d}", values, "COMPLETED", value))
    return made


def test_shares_of_a_sum(space):
    # Variances of 10 a and b over [0, 1]: 100/12 and 1/12.
    found = importance(trials(space, lambda v: 10 * v["a"] + v["b"], 300), space)
    assert found.shares["a"] == pytest.approx(100 / 101, abs=0.01)
    assert found.shares["b"] == pytest.approx(1 / 101, abs=0.008)
    assert max(found.shares["c"], found.shares["rate"], found.shares["cell"], found.shares["layers"]) < 0.002
    assert list(found.shares)[:2] == ["a", "b"]
    assert found.interactions < 0.01 and found.explained > 0.99


def test_shares_of_whole_numbers_and_categories(space):
    # Variances: 2/3 of a number from 1 to 3; 2/9 of one of three categories, times 4; 1/12 of a.
    total = 2 / 3 + 8 / 9 + 1 / 12
    found = importance(trials(space, lambda v: v["layers"] + 2 * (v["cell"] == "gru") + v["a"], 400), space)
    assert found.shares["layers"] == pytest.approx(2 / 3 / total, abs=0.06)
    assert found.shares["cell"] == pytest.approx(8 / 9 / total, abs=0.06)
    assert found.shares["a"] == pytest.approx(1 / 12 / total, abs=0.03)


def test_an_interaction_of_two_hyperparameters(space):
    found = importance(trials(space, lambda v: (v["a"] - 0.5) * (v["b"] - 0.5), 500), space)
    assert found.interactions > 0.9 and max(found.shares.values()) < 0.05


def test_values_on_a_log_scale_are_weighted_as_sampled(space):
    # An indicator of the last of four decades has variance 3/16; on a linear scale it would be 9/100.
    found = importance(trials(space, lambda v: (v["rate"] > 0.1) + 1.5 * v["a"], 400), space)
    assert found.shares["rate"] == pytest.approx(0.5, abs=0.06)
    smooth = importance(trials(space, lambda v: math.log10(v["rate"]) + 4 * v["a"], 400), space)
    assert smooth.shares["rate"] == pytest.approx(0.5, abs=0.06)
    assert smooth.shares["a"] == pytest.approx(0.5, abs=0.06)


def test_noise_is_not_explained(space):
    assert importance(trials(space, lambda v: 0.0, 40, noise=1.0), space).explained < 0.1
    assert importance(trials(space, lambda v: 3 * v["a"], 40, noise=0.1), space).explained > 0.6


def test_one_diverged_trial_does_not_dominate(space):
    made = trials(space, lambda v: v["a"], 60)
    middle = sorted(made, key=lambda one: one.score)[30]
    made[middle.number - 1] = TrialResult(middle.number, middle.trial_id, middle.values, "COMPLETED", 1e9)
    found = importance(made, space)
    assert found.shares["a"] > 0.7 and found.explained > 0.5


def test_the_same_trials_give_the_same_shares(space):
    made = trials(space, lambda v: v["a"] + v["b"], 30, noise=0.1)
    assert importance(made, space) == importance(made, space)


def test_at_least_eight_trials_are_required(space):
    made = trials(space, lambda v: v["a"], 12)
    failed = [TrialResult(one.number, one.trial_id, one.values, "FAILED") for one in made[8:]]
    nowhere = [TrialResult(13, "12", made[0].values, "COMPLETED", float("nan"))]
    assert importance(made[:8] + failed + nowhere, space) is not None
    assert importance(made[:7] + failed + nowhere, space) is None


def test_without_variation_the_result_is_none(space):
    assert importance(trials(space, lambda v: 0.5, 20), space) is None
    same = [TrialResult(i + 1, f"{i:02d}", {"a": 0.5}, "COMPLETED", float(i)) for i in range(20)]
    assert importance(same, space) is None
    assert importance([], space) is None


def test_most_scores_can_be_equal(space):
    found = importance(trials(space, lambda v: float(v["a"] > 0.8), 100), space)
    assert found.shares["a"] > 0.9  # with an interquartile range of 0 nothing is clipped


def test_a_constant_hyperparameter_has_no_share(space):
    assert "filters" not in importance(trials(space, lambda v: v["a"], 20), space).shares


def test_a_conditional_hyperparameter():
    hp = kt.HyperParameters()
    hp.Choice("cell", ["lstm", "esn"])
    with hp.conditional_scope("cell", ["esn"]):
        hp.Float("radius", 0.0, 1.0, default=0.5)
    generator = np.random.default_rng(0)
    made = []
    for number in range(1, 201):
        values, score = {"cell": "lstm"}, 0.5
        if generator.uniform() < 0.5:
            values = {"cell": "esn", "radius": float(generator.uniform())}
            score = values["radius"]
        made.append(TrialResult(number, f"{number - 1:02d}", values, "COMPLETED", score))
    assert next(iter(importance(made, hp).shares)) == "radius"


def test_a_hyperparameter_declared_under_two_conditions():
    hp = kt.HyperParameters()
    hp.Choice("cell", ["lstm", "esn"])
    with hp.conditional_scope("cell", ["lstm"]):
        hp.Choice("size", [8, 16])
    with hp.conditional_scope("cell", ["esn"]):
        hp.Choice("size", [100, 200])
    sizes = [8, 16, 100, 200] * 10
    made = [
        TrialResult(i + 1, f"{i:02d}", {"cell": "esn" if size > 50 else "lstm", "size": size}, "COMPLETED", size / 8)
        for i, size in enumerate(sizes)
    ]
    assert next(iter(importance(made, hp).shares)) == "size"
