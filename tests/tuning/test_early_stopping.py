"""Early stopping of trials, with cases computed by hand."""

import math

import pytest

from keras_dl.tuning.early_stopping import should_stop

from .scored import again, end, made


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
    oracle.update_trial(other.trial_id, {"val_loss": 0.5, "score": 0.5}, 0)
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
