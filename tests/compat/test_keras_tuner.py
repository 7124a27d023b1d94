"""Ranges of Keras Tuner with the patches, under every search strategy."""

import math
import os

import keras_tuner as kt
import pytest

from keras_dl.compat.keras_tuner import without_chief
from keras_dl.space import space
from keras_dl.tuning.oracles import NAMES, make_oracle

from ..tuning.scored import run

RANGES = [
    (lambda hp: hp.Float("x", 0.0, 0.5, step=0.1), [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]),
    (lambda hp: hp.Float("x", 0.0, 0.6, step=0.2), [0.0, 0.2, 0.4, 0.6]),
    (lambda hp: hp.Float("x", -0.3, 0.3, step=0.3), [-0.3, 0.0, 0.3]),
    (lambda hp: hp.Float("x", 0.1, 0.75, step=0.2), [0.1, 0.3, 0.5, 0.7]),
    (lambda hp: hp.Float("x", 1e-4, 1e-1, step=10, sampling="log"), [1e-4, 1e-3, 1e-2, 1e-1]),
    (lambda hp: hp.Float("x", 1.0, 9.0, step=3, sampling="reverse_log"), [1.0, 7.0, 9.0]),
    (lambda hp: hp.Int("x", 6, 13, step=3), [6, 9, 12]),
    (lambda hp: hp.Int("x", 2, 16, step=2, sampling="log"), [2, 4, 8, 16]),
]


@pytest.mark.parametrize(("declare", "values"), RANGES)
def test_steps_reach_the_upper_end(declare, values):
    hp = kt.HyperParameters()
    declare(hp)
    (entry,) = hp.space
    assert sorted(entry.values) == values
    assert {type(value) for value in entry.values} == {type(values[0])}
    assert {entry.prob_to_value(number / 1000) for number in range(1001)} == set(values)
    assert [entry.prob_to_value(entry.value_to_prob(value)) for value in values] == values


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("declare", "values"), [RANGES[0], pytest.param(*RANGES[-1], marks=pytest.mark.slow)])
def test_every_strategy_tries_every_value(tmp_path, name, declare, values):
    hp = kt.HyperParameters()
    declare(hp)
    hp.Float("score", 0.0, 1.0) if name != "grid" else hp.Fixed("score", 0.0)
    oracle = make_oracle(name, kt.Objective("val_loss", "min"), 60 if name != "bayesian" else 25, 9, 0, hp)
    oracle._set_project_dir(tmp_path, "trials")
    oracle.num_initial_points = 20
    tried = {trial["x"] for trial in run(oracle, score=lambda trial: trial.hyperparameters.get("score"))}
    assert tried == set(values)


def test_a_whole_number_without_steps_stays_in_its_range():
    hp = kt.HyperParameters()
    hp.Int("x", 1, 100, sampling="log")
    assert (hp.space[0].prob_to_value(0.0), hp.space[0].prob_to_value(1.0)) == (1, 100)
    assert math.isclose(hp.space[0].value_to_prob(100), 1.0, abs_tol=0.01)


def test_values_of_steps_can_be_given():
    from ..test_pipeline_space import Spaced

    for declare, values in RANGES:
        pipeline = Spaced()
        pipeline.data = lambda hp, declare=declare, pipeline=pipeline: (declare(hp), Spaced.data(pipeline, hp))[1]
        for value in values:
            assert space(pipeline, {"x": str(value)}).values["x"] == value


def test_variables_of_another_search_are_hidden(monkeypatch):
    for name in ("KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT", "KERASTUNER_TUNER_ID"):
        monkeypatch.setenv(name, "1")
    with without_chief():
        assert not any(name.startswith("KERASTUNER") for name in os.environ)
    assert os.environ["KERASTUNER_TUNER_ID"] == "1"
