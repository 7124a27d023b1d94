"""The four strategies without any training: what they propose, and in which order."""

import itertools
import math

import keras_tuner as kt
import pytest

from keras_dl.errors import UserError
from keras_dl.tuning.oracles import NAMES, Watch, combinations

from .scored import CELLS, DEFAULTS, RATES, UNITS, end, made, run, score, space


@pytest.mark.parametrize("name", ["random", "bayesian", "grid"])
def test_the_defaults_come_first(tmp_path, name):
    assert run(made(name, tmp_path), most=1) == [DEFAULTS]


@pytest.mark.parametrize("name", ["random", "bayesian", "grid"])
def test_the_defaults_come_first_with_pins(tmp_path, name):
    values = run(made(name, tmp_path, trials=4, pins={"cell": "lstm"}))
    assert values[0] == {**DEFAULTS, "cell": "lstm"}
    assert [trial["cell"] for trial in values] == ["lstm"] * 4
    assert len({str(trial) for trial in values}) == 4


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_decides_every_value(tmp_path, name):
    oracles = [made(name, tmp_path / str(number), seed=seed, trials=5) for number, seed in enumerate((3, 3, 4))]
    for oracle in oracles:
        oracle.num_initial_points = 4  # the Bayesian one draws so many at random, then trusts its process
    first, again, other = map(run, oracles)
    assert first == again and len(first) == 5
    if name != "grid":
        assert first != other


def test_seed_0_is_a_seed_too(tmp_path):
    assert run(made("random", tmp_path / "a", seed=0)) == run(made("random", tmp_path / "b", seed=0))
    assert run(made("random", tmp_path / "c", seed=0)) != run(made("random", tmp_path / "d", seed=1))


@pytest.mark.parametrize("name", NAMES)
def test_every_value_is_in_its_range_and_none_is_tried_twice(tmp_path, name):
    values = run(made(name, tmp_path))
    for trial in values:
        assert trial["units"] in UNITS and trial["cell"] in CELLS and RATES[0] <= trial["rate"] <= RATES[1]
    assert len({str(trial) for trial in values}) == len(values)


@pytest.mark.parametrize("name", ["random", "bayesian", "grid"])
def test_no_more_trials_than_asked_for(tmp_path, name):
    assert len(run(made(name, tmp_path, trials=5))) == 5


@pytest.mark.parametrize("trials", [1, 4])
def test_hyperband_is_capped(tmp_path, trials):
    # Its brackets alone would run many more.
    assert len(run(made("hyperband", tmp_path / "all", trials=1000))) > 10
    assert len(run(made("hyperband", tmp_path / "some", trials=trials))) == trials


def test_hyperband_begins_with_few_epochs_and_promotes_the_better_ones(tmp_path):
    values = run(made("hyperband", tmp_path, trials=1000, epochs=9))
    begun = [trial for trial in values if trial["tuner/bracket"] == 2 and trial["tuner/round"] == 0]
    promoted = [trial for trial in values if trial["tuner/bracket"] == 2 and trial["tuner/round"] == 1]
    assert {trial["tuner/epochs"] for trial in begun} == {1}
    assert {(trial["tuner/initial_epoch"], trial["tuner/epochs"]) for trial in promoted} == {(1, 3)}
    assert max(trial["units"] for trial in promoted) <= sorted(trial["units"] for trial in begun)[len(promoted) - 1]


@pytest.mark.parametrize("direction, best", [("min", 8), ("max", 32)])
def test_the_direction_counts(tmp_path, direction, best):
    oracle = made("grid", tmp_path, direction=direction, trials=100, continuous=False)
    run(oracle)
    assert oracle.get_best_trials(1)[0].hyperparameters.get("units") == best


@pytest.mark.parametrize("trials", [6, 100])
def test_a_grid_has_every_combination_once(tmp_path, trials):
    values = run(made("grid", tmp_path, trials=trials, continuous=False))
    assert sorted((trial["units"], trial["cell"]) for trial in values) == sorted(itertools.product(UNITS, CELLS))


def test_a_grid_begins_with_the_defaults_and_changes_the_last_value_first(tmp_path):
    values = run(made("grid", tmp_path, trials=3, continuous=False))
    assert [(trial["units"], trial["cell"]) for trial in values] == [(16, "gru"), (16, "lstm"), (8, "gru")]


def test_a_search_survives_any_number_of_failures(tmp_path):
    oracle = made("random", tmp_path, trials=5)
    for _ in range(5):
        end(oracle, oracle.create_trial("tuner0"), "FAILED")
    assert oracle.create_trial("tuner0").status == "STOPPED"


# ---------------------------------------------------------------------------- one trial


def test_a_step_told_again_replaces_what_was_told_before(tmp_path):
    oracle = made("random", tmp_path)
    trial = oracle.create_trial("tuner0")
    for value in (0.5, 0.3):
        assert oracle.update_trial(trial.trial_id, {"val_loss": value}, step=1).status == "RUNNING"
    (point,) = oracle.trials[trial.trial_id].metrics.get_history("val_loss")
    assert (point.step, point.value) == (1, [0.3])


def test_the_score_is_what_the_trial_says_at_its_end(tmp_path):
    oracle = made("random", tmp_path)
    trial = oracle.create_trial("tuner0")
    for epoch, value in enumerate((0.5, 0.2, 0.4)):
        oracle.update_trial(trial.trial_id, {"val_loss": value}, step=epoch)
    oracle.update_trial(trial.trial_id, {"val_loss": 0.2, "score": 0.25, "spread": 0.05}, step=1)  # of two executions
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
    known = oracle.get_best_trials(1)[0]
    assert (known.score, known.best_step, known.status) == (0.25, 1, "COMPLETED")
    assert known.metrics.get_last_value("spread") == 0.05


@pytest.mark.parametrize("value", [math.nan, None])
def test_a_score_that_is_no_number_is_a_failure(tmp_path, value):
    oracle = made("random", tmp_path)
    trial = oracle.create_trial("tuner0")
    if value is not None:
        oracle.update_trial(trial.trial_id, {"val_loss": value, "score": value}, step=0)
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
    known = oracle.trials[trial.trial_id]
    assert (known.status, known.message) == ("FAILED", f"val_loss is {value}")


def test_a_trial_that_has_ended_stays_as_it_is(tmp_path):
    oracle = made("random", tmp_path, trials=3)
    trial = oracle.create_trial("tuner0")
    end(oracle, trial)
    state = oracle.get_state()
    assert oracle.update_trial(trial.trial_id, {"val_loss": -1.0}, step=0).status == "STOPPED"
    end(oracle, trial, "FAILED")
    assert oracle.get_state() == {**state, "spent": pytest.approx(state["spent"], abs=5)}
    assert oracle.end_order == [trial.trial_id] and oracle.trials[trial.trial_id].score == score(trial)


def test_what_is_watched(tmp_path):
    told = []

    class Watcher(Watch):
        def begin(self, trial, worker=None):
            told.append(("begin", trial.trial_id, worker))

        def epoch(self, trial_id, number, score):
            told.append(("epoch", trial_id, number, score))

        def end(self, trial):
            told.append(("end", trial.trial_id, trial.status))

    oracle = made("random", tmp_path, trials=1)
    oracle.watch = Watcher()
    trial = oracle.create_trial("tuner0")
    oracle.update_trial(trial.trial_id, {"val_loss": 0.5}, step=0)
    end(oracle, trial)
    end(oracle, trial)
    oracle.create_trial("tuner0")
    key = trial.trial_id
    assert told == [("begin", key, "tuner0"), ("epoch", key, 1, 0.5), ("end", key, "COMPLETED")]


# ---------------------------------------------------------------------------- the end of the time


def test_after_its_time_a_search_begins_no_trial_and_ends_the_running_ones(tmp_path):
    oracle = made("random", tmp_path)
    oracle.max_time = 1000.0
    first, second = oracle.create_trial("tuner0"), oracle.create_trial("tuner1")
    assert oracle.update_trial(first.trial_id, {"val_loss": 0.5}, step=0).status == "RUNNING"
    oracle.spent_before = 999.9999
    assert oracle.spent >= 999.9999
    oracle.spent_before = 1000.0
    assert oracle.update_trial(first.trial_id, {"val_loss": 0.4}, step=1).status == "STOPPED"
    assert oracle.create_trial("tuner1").trial_id == second.trial_id  # that it has begun: it ends with its next epoch
    assert oracle.create_trial("tuner2").status == "STOPPED"
    end(oracle, first)
    assert oracle.create_trial("tuner0").status == "STOPPED"
    assert oracle.trials[first.trial_id].status == "COMPLETED"


# ---------------------------------------------------------------------------- how large a grid is


def test_combinations():
    assert combinations(space(kt.HyperParameters(), continuous=False)) == 6
    assert combinations(space(kt.HyperParameters())) == 60  # Keras Tuner's grid takes 10 values of a range
    hp = kt.HyperParameters()
    hp.Fixed("cell", "gru")
    hp.Choice("units", [4])
    hp.Int("layers", 1, 4)
    hp.Boolean("bias")
    assert combinations(hp) == 8
    with hp.conditional_scope("bias", [True]):
        hp.Choice("initial", [0.0, 1.0])
    assert combinations(hp) is None


def test_nothing_to_search():
    hp = kt.HyperParameters()
    hp.Fixed("units", 3)
    hp.Choice("cell", ["gru"])
    with pytest.raises(UserError, match=r"nothing to search: every value of the space is given \(units, cell\)"):
        combinations(hp)
