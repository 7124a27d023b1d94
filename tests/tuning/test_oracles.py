"""The proposals of the four search strategies, their order and early stopping, without any training."""

import itertools
import math

import keras_tuner as kt
import pytest

from keras_dl.errors import UserError
from keras_dl.tuning.oracles import NAMES, Watch, combinations, should_stop
from keras_dl.tuning.results import SCORE, SPREAD

from .scored import CELLS, DEFAULTS, RATES, UNITS, again, end, made, run, score, space


@pytest.mark.parametrize("name", ["random", "bayesian", "grid"])
def test_the_defaults_come_first(tmp_path, name):
    assert run(made(name, tmp_path), most=1) == [DEFAULTS]


@pytest.mark.parametrize("name", ["random", "bayesian", "grid"])
def test_the_defaults_come_first_with_pins(tmp_path, name):
    values = run(made(name, tmp_path, trials=4, pins={"cell": "lstm"}))
    assert values[0] == {**DEFAULTS, "cell": "lstm"}
    assert [trial["cell"] for trial in values] == ["lstm"] * 4
    assert len({str(trial) for trial in values}) == 4


# A Gaussian process takes seconds.
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "bayesian" else name for name in NAMES]
)
def test_the_seed_determines_every_value(tmp_path, name):
    oracles = [made(name, tmp_path / str(number), seed=seed, trials=5) for number, seed in enumerate((3, 3, 4))]
    for oracle in oracles:
        oracle.num_initial_points = 4  # random trials before the Bayesian oracle uses its Gaussian process
    first, again, other = map(run, oracles)
    assert first == again and len(first) == 5
    if name != "grid":
        assert first != other


def test_seed_0_is_a_valid_seed(tmp_path):
    assert run(made("random", tmp_path / "a", seed=0)) == run(made("random", tmp_path / "b", seed=0))
    assert run(made("random", tmp_path / "c", seed=0)) != run(made("random", tmp_path / "d", seed=1))


@pytest.mark.parametrize("name", NAMES)
def test_values_are_in_their_ranges_and_never_repeated(tmp_path, name):
    values = run(made(name, tmp_path))
    for trial in values:
        assert trial["units"] in UNITS and trial["cell"] in CELLS and RATES[0] <= trial["rate"] <= RATES[1]
    assert len({str(trial) for trial in values}) == len(values)


@pytest.mark.parametrize("name", ["random", "bayesian", "grid"])
def test_the_number_of_trials_is_limited(tmp_path, name):
    assert len(run(made(name, tmp_path, trials=5))) == 5


@pytest.mark.parametrize("trials", [1, 4])
def test_the_number_of_trials_of_hyperband_is_limited(tmp_path, trials):
    assert len(run(made("hyperband", tmp_path / "all", trials=1000))) > 10
    assert len(run(made("hyperband", tmp_path / "some", trials=trials))) == trials


def test_hyperband_starts_with_few_epochs_and_promotes_the_better_trials(tmp_path):
    values = run(made("hyperband", tmp_path, trials=1000, epochs=9))
    first = [trial for trial in values if trial["tuner/bracket"] == 2 and trial["tuner/round"] == 0]
    promoted = [trial for trial in values if trial["tuner/bracket"] == 2 and trial["tuner/round"] == 1]
    assert {trial["tuner/epochs"] for trial in first} == {1}
    assert {(trial["tuner/initial_epoch"], trial["tuner/epochs"]) for trial in promoted} == {(1, 3)}
    assert max(trial["units"] for trial in promoted) <= sorted(trial["units"] for trial in first)[len(promoted) - 1]


@pytest.mark.parametrize("direction, best", [("min", 8), ("max", 32)])
def test_the_direction_decides_the_best_trial(tmp_path, direction, best):
    oracle = made("grid", tmp_path, direction=direction, trials=100, continuous=False)
    run(oracle)
    assert oracle.get_best_trials(1)[0].hyperparameters.get("units") == best


@pytest.mark.parametrize("trials", [6, 100])
def test_a_grid_has_every_combination_once(tmp_path, trials):
    values = run(made("grid", tmp_path, trials=trials, continuous=False))
    assert sorted((trial["units"], trial["cell"]) for trial in values) == sorted(itertools.product(UNITS, CELLS))


def test_a_grid_starts_with_the_defaults_and_varies_the_last_value_first(tmp_path):
    values = run(made("grid", tmp_path, trials=3, continuous=False))
    assert [(trial["units"], trial["cell"]) for trial in values] == [(16, "gru"), (16, "lstm"), (8, "gru")]


def test_a_search_continues_after_any_number_of_failures(tmp_path):
    oracle = made("random", tmp_path, trials=5)
    for _ in range(5):
        end(oracle, oracle.create_trial("tuner0"), "FAILED")
    assert oracle.create_trial("tuner0").status == "STOPPED"


# ---------------------------------------------------------------------------- one trial


def test_a_repeated_report_of_an_epoch_replaces_the_first(tmp_path):
    oracle = made("random", tmp_path)
    trial = oracle.create_trial("tuner0")
    for value in (0.5, 0.3):
        assert oracle.update_trial(trial.trial_id, {"val_loss": value}, step=1).status == "RUNNING"
    (point,) = oracle.trials[trial.trial_id].metrics.get_history("val_loss")
    assert (point.step, point.value) == (1, [0.3])


def test_the_score_is_the_one_reported_at_the_end(tmp_path):
    oracle = made("random", tmp_path)
    trial = oracle.create_trial("tuner0")
    for epoch, value in enumerate((0.5, 0.2, 0.4)):
        oracle.update_trial(trial.trial_id, {"val_loss": value}, step=epoch)
    oracle.update_trial(trial.trial_id, {"val_loss": 0.2, SCORE: 0.25, SPREAD: 0.05}, step=1)  # of two executions
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
    known = oracle.get_best_trials(1)[0]
    assert (known.score, known.best_step, known.status) == (0.25, 1, "COMPLETED")
    assert known.metrics.get_last_value(SPREAD) == 0.05


@pytest.mark.parametrize("value", [math.nan, None])
def test_a_trial_without_a_finite_score_fails(tmp_path, value):
    oracle = made("random", tmp_path)
    trial = oracle.create_trial("tuner0")
    if value is not None:
        oracle.update_trial(trial.trial_id, {"val_loss": value, SCORE: value}, step=0)
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
    known = oracle.trials[trial.trial_id]
    assert (known.status, known.message) == ("FAILED", f"val_loss is {value}")


def test_a_finished_trial_does_not_change(tmp_path):
    oracle = made("random", tmp_path, trials=3)
    trial = oracle.create_trial("tuner0")
    end(oracle, trial)
    state = oracle.get_state()
    assert oracle.update_trial(trial.trial_id, {"val_loss": -1.0}, step=0).status == "STOPPED"
    end(oracle, trial, "FAILED")
    assert oracle.get_state() == {**state, "spent": pytest.approx(state["spent"], abs=1000)}
    assert oracle.end_order == [trial.trial_id] and oracle.trials[trial.trial_id].score == score(trial)


def test_events_are_reported_to_the_watch(tmp_path):
    events = []

    class Watcher(Watch):
        def begin(self, trial, worker=None):
            events.append(("begin", trial.trial_id, worker))

        def epoch(self, trial_id, number, score):
            events.append(("epoch", trial_id, number, score))

        def end(self, trial):
            events.append(("end", trial.trial_id, trial.status))

    oracle = made("random", tmp_path, trials=1)
    oracle.watch = Watcher()
    trial = oracle.create_trial("tuner0")
    oracle.update_trial(trial.trial_id, {"val_loss": 0.5}, step=0)
    end(oracle, trial)
    end(oracle, trial)
    oracle.create_trial("tuner0")
    key = trial.trial_id
    assert events == [("begin", key, "tuner0"), ("epoch", key, 1, 0.5), ("end", key, "COMPLETED")]


# ---------------------------------------------------------------------------- time limit


def test_after_the_time_limit_no_trial_starts_and_running_ones_stop(tmp_path):
    oracle = made("random", tmp_path)
    oracle.max_time = 1000.0
    first, second = oracle.create_trial("tuner0"), oracle.create_trial("tuner1")
    assert oracle.update_trial(first.trial_id, {"val_loss": 0.5}, step=0).status == "RUNNING"
    oracle.spent_before = 999.9999
    assert oracle.spent >= 999.9999
    oracle.spent_before = 1000.0
    assert oracle.update_trial(first.trial_id, {"val_loss": 0.4}, step=1).status == "STOPPED"
    assert oracle.create_trial("tuner1").trial_id == second.trial_id  # already running: it stops after its next epoch
    assert oracle.create_trial("tuner2").status == "STOPPED"
    end(oracle, first)
    assert oracle.create_trial("tuner0").status == "STOPPED"
    assert oracle.trials[first.trial_id].status == "COMPLETED"


# ---------------------------------------------------------------------------- size of a grid


def test_number_of_combinations():
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


def test_a_space_with_nothing_to_search_raises_an_error():
    hp = kt.HyperParameters()
    hp.Fixed("units", 3)
    hp.Choice("cell", ["gru"])
    with pytest.raises(UserError, match=r"nothing to search: every hyperparameter has a single value \(units, cell\)"):
        combinations(hp)


def begin(oracle, *curves):
    """Starts a trial per worker and reports these curves; None means that an epoch is not reported."""
    trials = []
    for number, curve in enumerate(curves):
        trial = oracle.create_trial(f"tuner{number}")
        for epoch, value in enumerate(curve):
            if value is not None:
                oracle.update_trial(trial.trial_id, {"val_loss": value}, step=epoch)
        trials.append(oracle.trials[trial.trial_id])
    return trials


def verdict(rule, oracle, curves, step=None):
    """Returns whether the trial of the last curve should stop."""
    *_, trial = begin(oracle, *curves)
    return should_stop(rule, oracle, trial, len(curves[-1]) - 1 if step is None else step)


# The means of the others' first two epochs are 0.3, 0.5 and 0.7; their median is 0.5.
OTHERS = [(0.4, 0.2), (0.6, 0.4, 0.0), (0.8, 0.6)]


@pytest.mark.parametrize("own, stops", [((0.9, 0.51), True), ((0.9, 0.5), False), ((0.49, 0.9), False)])
def test_median(tmp_path, own, stops):
    assert verdict("median", made("random", tmp_path), [*OTHERS, own]) is stops


@pytest.mark.parametrize("own, stops", [((0.1, 0.49), True), ((0.1, 0.5), False), ((0.51, 0.1), False)])
def test_median_of_an_objective_to_maximize(tmp_path, own, stops):
    assert verdict("median", made("random", tmp_path, direction="max"), [*OTHERS, own]) is stops


def test_median_of_an_even_number_of_others(tmp_path):
    others = [(0.2,), (0.4,), (0.6,), (0.8,)]
    assert verdict("median", made("random", tmp_path / "a"), [*others, (0.51,)])
    assert not verdict("median", made("random", tmp_path / "b"), [*others, (0.5,)])


@pytest.mark.parametrize("rule", ["median", "halving"])
def test_at_least_three_other_trials_are_required(tmp_path, rule):
    assert not verdict(rule, made("random", tmp_path / "a"), [(0.1,), (0.2,), (9.0,)])
    assert verdict(rule, made("random", tmp_path / "b"), [(0.1,), (0.2,), (0.3,), (9.0,)])
    # One of the three has not reached this epoch.
    assert not verdict(rule, made("random", tmp_path / "c"), [(0.1,) * 3, (0.2,) * 3, (0.3,) * 2, (9.0,) * 3])


def test_without_a_rule_no_trial_is_stopped(tmp_path):
    assert not verdict(None, made("random", tmp_path), [(0.1,), (0.2,), (0.3,), (9.0,)])


# The better third of four trials is one trial; of six, two.
@pytest.mark.parametrize(
    "others, own, stops",
    [
        ([0.2, 0.4, 0.6], 0.19, False),
        ([0.2, 0.4, 0.6], 0.2, False),
        ([0.2, 0.4, 0.6], 0.21, True),
        ([0.1, 0.2, 0.4, 0.6, 0.8], 0.2, False),
        ([0.1, 0.2, 0.4, 0.6, 0.8], 0.21, True),
    ],
)
def test_halving(tmp_path, others, own, stops):
    assert verdict("halving", made("random", tmp_path), [*((value,) for value in others), (own,)]) is stops


@pytest.mark.parametrize("own, stops", [(0.6, False), (0.59, True)])
def test_halving_of_an_objective_to_maximize(tmp_path, own, stops):
    assert verdict("halving", made("random", tmp_path, direction="max"), [(0.2,), (0.4,), (0.6,), (own,)]) is stops


def test_halving_decides_only_after_1_3_9_and_27_epochs(tmp_path):
    curves = [(0.1,) * 30, (0.2,) * 30, (0.3,) * 30, (0.9,) * 30]
    oracle = made("random", tmp_path)
    *_, trial = begin(oracle, *curves)
    assert [step + 1 for step in range(30) if should_stop("halving", oracle, trial, step)] == [1, 3, 9, 27]


def test_halving_compares_the_best_epochs_so_far(tmp_path):
    others = [(0.5, 0.5, 0.5)] * 3
    assert not verdict("halving", made("random", tmp_path / "a"), [*others, (0.4, 0.9, 0.9)])
    assert verdict("halving", made("random", tmp_path / "b"), [*others, (0.6, 0.9, 0.9)])


@pytest.mark.parametrize("rule", ["median", "halving"])
def test_later_epochs_of_other_trials_are_ignored(tmp_path, rule):
    """A trial that is resumed after a kill reports its epochs again, when others are ahead."""
    others = [(0.8, 0.0, 0.0)] * 3
    assert not verdict(rule, made("random", tmp_path), [*others, (0.7, 0.7, 0.7)], step=0)


@pytest.mark.parametrize("rule", ["median", "halving"])
def test_epochs_with_nan_are_ignored(tmp_path, rule):
    others = [(0.2, math.nan, 0.2), (0.4, 0.4, 0.4), (0.6, 0.6, 0.6)]
    assert verdict(rule, made("random", tmp_path / "a"), [*others, (math.nan, 0.9, 0.9)])
    assert not verdict(rule, made("random", tmp_path / "b"), [*others, (math.nan, 0.1, 0.9)])
    assert not verdict(rule, made("random", tmp_path / "c"), [*others, (math.nan,) * 3])


@pytest.mark.parametrize("rule", ["median", "halving"])
def test_a_promoted_trial_is_compared_over_its_own_epochs(tmp_path, rule):
    """It starts after its parent's last epoch; the others have reported all epochs."""
    others = [(0.8, 0.8, 0.2)] * 3
    assert verdict(rule, made("random", tmp_path / "a"), [*others, (None, None, 0.61)])
    assert not verdict(rule, made("random", tmp_path / "b"), [*others, (None, None, 0.2)])


def test_the_oracle_stops_a_trial_and_takes_its_best_epoch(tmp_path):
    oracle = made("random", tmp_path)
    oracle.early_stopping = "median"
    for value in (0.1, 0.2, 0.3):
        trial = oracle.create_trial("tuner0")
        for epoch in range(3):
            assert oracle.update_trial(trial.trial_id, {"val_loss": value}, epoch).status == "RUNNING"
        end(oracle, trial)
    trial = oracle.create_trial("tuner0")
    assert oracle.update_trial(trial.trial_id, {"val_loss": 0.15}, 0).status == "RUNNING"
    assert oracle.update_trial(trial.trial_id, {"val_loss": 0.9}, 1).status == "RUNNING"  # its best was better
    other = oracle.create_trial("tuner1")
    assert oracle.update_trial(other.trial_id, {"val_loss": 0.5}, 0).status == "STOPPED"
    oracle.update_trial(other.trial_id, {"val_loss": 0.5, SCORE: 0.5}, 0)
    other.status = "COMPLETED"
    oracle.end_trial(other)
    assert (oracle.trials[other.trial_id].score, oracle.trials[other.trial_id].best_step) == (0.5, 0)


def test_a_resumed_search_decides_as_before(tmp_path):
    oracle = made("random", tmp_path)
    oracle.early_stopping = "median"
    for value in (0.1, 0.2, 0.3):
        trial = oracle.create_trial("tuner0")
        oracle.update_trial(trial.trial_id, {"val_loss": value}, 0)
        end(oracle, trial)
    curve = [point.value[0] for point in oracle.trials[trial.trial_id].metrics.get_history("val_loss")]
    oracle.create_trial("tuner0")
    oracle = again(oracle)
    kept = oracle.trials[trial.trial_id].metrics.get_history("val_loss")
    assert [point.value[0] for point in kept] == curve
    trial = oracle.create_trial("tuner0")
    assert oracle.update_trial(trial.trial_id, {"val_loss": 5.0}, 0).status == "STOPPED"
