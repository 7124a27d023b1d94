"""The results read from an oracle, and comparisons of trials."""

import keras_tuner as kt
import pytest
from keras_tuner.src.engine.trial import Trial

from keras_dl.errors import UserError
from keras_dl.tuning.oracles import make_oracle
from keras_dl.tuning.results import (
    SCORE,
    SECONDS,
    SPREAD,
    TrialResult,
    clock,
    last_line,
    leaderboard,
    number,
    pareto,
    results,
    searched,
)


@pytest.fixture
def oracle(tmp_path):
    """A random search over one number, with up to five trials."""
    hp = kt.HyperParameters()
    hp.Int("units", 1, 1000)
    made = make_oracle("random", kt.Objective("val_loss", "min"), 5, 4, 0, hp)
    made._set_project_dir(tmp_path, "trials")
    made.verbose = 0
    return made


def ended(trial, status="COMPLETED", message=None):
    """Returns a copy with this status, as a worker sends it; only the oracle changes its own trial."""
    return Trial(trial.hyperparameters, trial.trial_id, status, message)


def test_a_completed_trial_is_read_from_the_oracle(oracle):
    trial = oracle.create_trial("tuner0")
    for epoch, value in enumerate((0.9, 0.4, 0.6)):
        oracle.update_trial(trial.trial_id, {"val_loss": value}, step=epoch)
    oracle.update_trial(trial.trial_id, {SECONDS: 3.0}, step=0)  # so far
    more = {SCORE: 0.45, SPREAD: 0.05, "val_accuracy": 0.8, "score": 7.0, SECONDS: 12.5}
    oracle.update_trial(trial.trial_id, more, step=1)
    oracle.end_trial(ended(trial))
    (result,) = results(oracle, {trial.trial_id: "abc"})
    assert result == TrialResult(
        number=1,
        trial_id=trial.trial_id,
        values=trial.hyperparameters.values,
        status="COMPLETED",
        score=0.45,
        spread=0.05,
        seconds=12.5,
        best_epoch=2,
        curve=(0.9, 0.4, 0.6),
        metrics={"val_accuracy": 0.8, "score": 7.0, "val_loss": 0.45},
        run_id="abc",
    )


def test_a_failed_trial_keeps_its_curve_and_message_and_has_no_score(oracle):
    trial = oracle.create_trial("tuner0")
    oracle.update_trial(trial.trial_id, {"val_loss": 0.1}, step=0)
    oracle.end_trial(ended(trial, "FAILED", "Traceback\nValueError: no"))
    (result,) = results(oracle)
    assert (result.status, result.score, result.best_epoch, result.run_id) == ("FAILED", None, None, None)
    assert result.curve == (0.1,) and result.message.endswith("ValueError: no") and not result.completed


def test_trials_are_in_the_order_in_which_they_started(oracle):
    first, second = oracle.create_trial("a"), oracle.create_trial("b")
    oracle.update_trial(second.trial_id, {SCORE: 0.5}, step=0)
    oracle.end_trial(ended(second))
    one, two = results(oracle)
    assert (one.number, one.trial_id, one.status) == (1, first.trial_id, "RUNNING")
    assert (two.number, two.trial_id, two.status, two.score) == (2, second.trial_id, "COMPLETED", 0.5)


def test_a_promoted_trial_has_its_first_epoch_and_no_internal_values(oracle):
    trial = oracle.create_trial("tuner0")
    oracle.trials[trial.trial_id].hyperparameters.values |= {"tuner/initial_epoch": 2, "encoder/units": 3}
    for epoch in (2, 3):
        oracle.update_trial(trial.trial_id, {"val_loss": 0.5}, step=epoch)
    (result,) = results(oracle)
    assert result.first_epoch == 3 and list(result.values) == ["units", "encoder/units"]


def made(number, score, status="COMPLETED", **metrics):
    return TrialResult(number, f"{number - 1:02d}", {"units": number, "rate": 0.1}, status, score, metrics=metrics)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("direction, order", [("min", [3, 2, 5, 1]), ("max", [1, 2, 5, 3])])
def test_the_leaderboard(direction, order):
    trials = [
        made(1, 0.9),
        made(2, 0.5),
        made(3, 0.1),
        made(4, 0.0, "FAILED"),
        made(5, 0.5),
        made(6, NAN),
        made(7, INF),
    ]
    assert [one.number for one in leaderboard(trials, direction)] == order


def test_an_invalid_direction_raises_an_error():
    with pytest.raises(UserError, match="'min' or 'max'. Received: 'down'"):
        leaderboard([], "down")


def test_the_pareto_front():
    trials = [
        made(1, 0, error=0.1, gain=5.0),
        made(2, 0, error=0.2, gain=9.0),
        made(3, 0, error=0.2, gain=5.0),  # dominated by both
        made(4, 0, error=0.3, gain=9.0),  # dominated by 2
        made(5, 0, error=0.1, gain=5.0),  # equal to 1
        made(6, 0, error=0.0, gain=NAN),
        made(7, 0, error=0.0),
        made(8, 0, "FAILED", error=0.0, gain=10.0),
    ]
    assert [one.number for one in pareto(trials, {"error": "min", "gain": "max"})] == [1, 2, 5]
    assert [one.number for one in pareto(trials, {"error": "max", "gain": "max"})] == [4]
    assert [one.number for one in pareto(trials, {"error": "min"})] == [6, 7]


def test_the_pareto_front_of_no_trials_is_empty():
    assert pareto([], {"error": "min"}) == []
    assert pareto([made(1, NAN)], {"error": "min"}) == []


def test_an_unknown_metric_raises_an_error():
    with pytest.raises(UserError, match="no trial reported gain. Available: error"):
        pareto([made(1, 0, error=0.1)], {"error": "min", "gain": "max"})


def test_searched_hyperparameters_are_those_that_differ():
    trials = [made(1, 0), made(2, 0)]
    assert searched(trials) == ["units"]
    assert searched(trials[:1]) == searched([]) == []
    assert searched([*trials, TrialResult(3, "02", {"cell": "esn"}, "RUNNING")]) == ["units", "rate", "cell"]
    same_in_print = [TrialResult(1, "00", {"x": 1}, "FAILED"), TrialResult(2, "01", {"x": True}, "FAILED")]
    assert searched(same_in_print) == ["x"]


@pytest.mark.parametrize("spread, shown", [(None, "0.1235"), (0.0, "0.1235"), (0.00321, "0.1235 ± 0.0032")])
def test_a_score_is_shown_with_its_spread(spread, shown):
    assert TrialResult(1, "00", {}, "COMPLETED", 0.123456, spread).shown_score == shown


@pytest.mark.parametrize(
    "seconds, shown", [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3599, "59:59"), (3600, "1:00:00"), (None, "-")]
)
def test_times_are_formatted(seconds, shown):
    assert clock(seconds) == shown


@pytest.mark.parametrize("value, shown", [(None, "-"), (1.0, "1"), (1e-7, "1e-07"), (True, "True"), ("[a]", "[a]")])
def test_numbers_are_formatted(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize("message, line", [(None, ""), ("", ""), ("a\nb: c\n\n", "b: c")])
def test_the_last_line_of_a_message(message, line):
    assert last_line(message) == line
