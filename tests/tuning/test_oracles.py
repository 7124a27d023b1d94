"""The four strategies without any training: a score is computed from the values."""

import itertools

import keras_tuner as kt
import pytest

from keras_dl.tuning.oracles import NAMES, make_oracle

UNITS, CELLS, RATES = [8, 16, 32], ["lstm", "gru"], (1e-3, 1e-1)
DEFAULTS = {"units": 16, "cell": "gru", "rate": 1e-2}


def space(hp, continuous=True):
    hp.Choice("units", UNITS, default=16)
    hp.Choice("cell", CELLS, default="gru")
    if continuous:
        hp.Float("rate", *RATES, sampling="log", default=1e-2)
    return hp


def made(name, folder, trials=8, seed=0, direction="min", pins=None, continuous=True, epochs=9):
    """An oracle as `search` makes one: pins first, then what the pipeline asks for."""
    hp = kt.HyperParameters()
    for pin, value in (pins or {}).items():
        hp.Fixed(pin, value)
    oracle = make_oracle(name, kt.Objective("val_loss", direction), trials, epochs, seed, hp)
    oracle.verbose = 0
    oracle._set_project_dir(folder, "trials")
    oracle.update_space(space(oracle.get_space(), continuous))
    return oracle


def run(oracle, most=1000):
    """Runs at most so many trials; returns the values of each."""
    values = []
    while len(values) < most:
        trial = oracle.create_trial("tuner0")
        if trial.status != "RUNNING":
            break
        values.append(dict(trial.hyperparameters.values))
        end(oracle, trial)
    return values


def end(oracle, trial, status="COMPLETED", save=True):
    if status == "COMPLETED":
        oracle.update_trial(trial.trial_id, {"val_loss": trial.hyperparameters.get("units") / 32}, step=0)
    trial.status = status
    oracle.end_trial(trial)
    if save:
        oracle.save()


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
    first, again, other = (
        run(made(name, tmp_path / str(number), seed=seed, trials=10)) for number, seed in enumerate((3, 3, 4))
    )
    assert first == again and len(first) == 10  # the Bayesian one draws 9 at random, then trusts its process
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


COMBINATIONS = sorted(itertools.product(UNITS, CELLS))


@pytest.mark.parametrize("ended", range(6))
@pytest.mark.parametrize("stopped_within_a_trial", [False, True])
def test_grid_goes_on_after_a_stop_with_every_combination_once(tmp_path, ended, stopped_within_a_trial):
    first = made("grid", tmp_path, trials=100, continuous=False)
    values = run(first, most=ended)
    if stopped_within_a_trial:
        started = first.create_trial("tuner0").hyperparameters.values
    first.save()

    second = made("grid", tmp_path, trials=100, continuous=False)
    second.reload()
    rest = run(second)
    if stopped_within_a_trial:
        assert rest[0] == started
    tried = [(trial["units"], trial["cell"]) for trial in values + rest]
    assert sorted(tried) == COMBINATIONS


def test_grid_goes_on_after_two_stops_and_a_failed_trial(tmp_path):
    values = []
    for most in (2, 1, 100):
        oracle = made("grid", tmp_path, trials=100, continuous=False)
        if values:
            oracle.reload()
        values += run(oracle, most)
        if most == 2:
            failed = oracle.create_trial("tuner0")
            values.append(dict(failed.hyperparameters.values))
            end(oracle, failed, "FAILED")
    assert sorted((trial["units"], trial["cell"]) for trial in values) == COMBINATIONS
    assert [trial.status for trial in oracle.trials.values()].count("FAILED") == 1


def test_grid_goes_on_after_a_kill_between_the_end_of_a_trial_and_the_next(tmp_path):
    """Keras Tuner writes its state before it knows that the trial is over."""
    first = made("grid", tmp_path, trials=100, continuous=False)
    values = run(first, most=2)
    trial = first.create_trial("tuner0")
    end(first, trial, save=False)
    second = made("grid", tmp_path, trials=100, continuous=False)
    second.reload()
    rest = run(second)
    assert rest[0] == trial.hyperparameters.values  # it is run again
    assert sorted((trial["units"], trial["cell"]) for trial in values + rest) == COMBINATIONS


@pytest.mark.parametrize("name", ["random", "bayesian", "hyperband"])
def test_the_others_go_on_as_if_never_stopped(tmp_path, name):
    whole = run(made(name, tmp_path / "whole"))
    values = run(made(name, tmp_path / "parts"), most=4)
    second = made(name, tmp_path / "parts")
    second.reload()
    values += run(second)
    assert len(values) == len(whole)
    if name != "bayesian":  # its process draws from a generator whose place is not in the state
        assert values == whole


def test_a_search_survives_any_number_of_failures(tmp_path):
    oracle = made("random", tmp_path, trials=5)
    for _ in range(5):
        end(oracle, oracle.create_trial("tuner0"), "FAILED")
    assert oracle.create_trial("tuner0").status == "STOPPED"
