"""Oracles that are killed between any two events propose the same values as undisturbed ones."""

import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_dl.tuning.oracles import NAMES

from .scored import CELLS, UNITS, again, end, made, run

WORKERS = ["tuner0", "tuner1", "tuner2"]
EVENTS = st.lists(
    st.tuples(st.sampled_from(["ask", "ask", "epoch", "end", "end", "fail", "release"]), st.sampled_from(WORKERS)),
    min_size=5,
    max_size=25,
)


class Workers:
    """Workers of an oracle that may be killed after every event; records the oracle's answers."""

    def __init__(self, oracle, killed):
        self.oracle, self.killed, self.given, self.epochs = oracle, killed, [], {}
        oracle.save()  # as the tuner does

    def event(self, kind, worker):
        oracle = self.oracle
        trial = oracle.ongoing_trials.get(worker)
        if kind == "ask":
            got = oracle.create_trial(worker)
            values = got.hyperparameters.values if got.status == "RUNNING" else None
            self.given.append((worker, got.status, got.trial_id if values else None, dict(values or {})))
        elif trial is not None and kind == "epoch":
            epochs = self.epochs.setdefault(trial.trial_id, [])
            epochs.append(1 / (len(epochs) + 1) + trial.hyperparameters.get("units"))
            self.given.append(oracle.update_trial(trial.trial_id, {"val_loss": epochs[-1]}, len(epochs) - 1).status)
        elif trial is not None and kind in ("end", "fail"):
            end(oracle, trial, "COMPLETED" if kind == "end" else "FAILED")
        elif kind == "release":
            oracle.release(worker)
        if self.killed:
            self.kill()

    def kill(self):
        self.oracle = again(self.oracle)
        for trial in self.oracle.ongoing_trials.values():  # resumed trials report their epochs again
            for step, value in enumerate(self.epochs.get(trial.trial_id, [])):
                self.oracle.update_trial(trial.trial_id, {"val_loss": value}, step)

    def finish(self):
        """Runs all remaining trials, one worker after the other."""
        for _ in range(100):
            for worker in WORKERS:
                self.event("ask", worker)
                self.event("end", worker)
            if self.given[-1][1] == "STOPPED" and not self.oracle.ongoing_trials:
                return
        raise AssertionError("the search does not end")


def state(oracle):
    """Returns the state of an oracle that concerns its trials."""
    kept = oracle.get_state()
    return {name: kept[name] for name in ("trials", "start_order", "end_order", "ongoing_trials", "seed_state")}


@pytest.mark.parametrize("name", ["random", "hyperband", "grid"])
@given(events=EVENTS)
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_an_oracle_killed_after_every_event_proposes_the_same_trials(name, events):
    with tempfile.TemporaryDirectory() as folder:
        undisturbed, killed = (
            Workers(made(name, Path(folder, part), trials=9, epochs=4, continuous=name != "grid"), part == "killed")
            for part in ("undisturbed", "killed")
        )
        for workers in (undisturbed, killed):
            for event in events:
                workers.event(*event)
            workers.finish()
        assert killed.given == undisturbed.given
        assert state(killed.oracle) == state(undisturbed.oracle)
        # Each trial has ended exactly once, and the numbers have no gap.
        oracle = killed.oracle
        assert sorted(oracle.end_order) == sorted(oracle.start_order) == sorted(oracle.trials)
        assert oracle._retry_queue == [] and len(set(oracle.end_order)) == len(oracle.end_order)
        if name != "hyperband":  # which runs fewer trials after failures
            assert len(oracle.trials) == (6 if name == "grid" else 9)


def test_the_gaussian_process_proposes_the_same_after_a_kill(tmp_path):
    """After the random trials, and with a running trial of another worker whose score is predicted."""
    found = []
    for part in ("undisturbed", "killed"):
        oracle = made("bayesian", tmp_path / part, trials=5)
        oracle.num_initial_points = 3
        workers = Workers(oracle, part == "killed")
        for kind, worker in [("ask", "tuner0"), ("end", "tuner0")] * 3 + [("ask", "tuner0"), ("ask", "tuner1")]:
            workers.event(kind, worker)
        found.append(workers.given)
    assert found[0] == found[1]
    assert len({str(values) for *_, values in found[0]}) == 5


@pytest.mark.parametrize("name", NAMES)
def test_a_running_trial_is_returned_to_the_same_worker(tmp_path, name):
    oracle = made(name, tmp_path)
    first, second = oracle.create_trial("tuner0"), oracle.create_trial("tuner1")
    oracle = again(oracle)
    assert oracle.create_trial("tuner1").hyperparameters.values == second.hyperparameters.values
    assert oracle.create_trial("tuner0").trial_id == first.trial_id
    assert len(oracle.trials) == 2


def test_a_released_trial_goes_to_the_next_worker_and_the_lost_worker_may_return(tmp_path):
    oracle = made("random", tmp_path)
    first = oracle.create_trial("tuner0")
    oracle.release("tuner0")
    oracle.release("tuner0")  # already released
    oracle = again(oracle)
    assert oracle.create_trial("tuner1").trial_id == first.trial_id
    other = oracle.create_trial("tuner0")
    assert other.trial_id != first.trial_id
    end(oracle, first)
    oracle = again(oracle)
    assert {name: trial.trial_id for name, trial in oracle.ongoing_trials.items()} == {"tuner0": other.trial_id}


def test_a_trial_that_ends_after_its_release_is_not_reassigned(tmp_path):
    oracle = made("random", tmp_path, trials=2)
    trial = oracle.create_trial("tuner0")
    oracle.release("tuner0")
    end(oracle, trial)
    assert oracle.create_trial("tuner1").trial_id != trial.trial_id
    assert again(oracle)._retry_queue == []


def test_the_time_of_earlier_processes_is_included(tmp_path):
    oracle = made("random", tmp_path)
    oracle.max_time, oracle.spent_before = 1000.0, 600.0
    oracle.create_trial("tuner0")
    later = again(oracle)
    assert 600 <= later.spent < 700
    later.spent_before = 1000.0
    assert later.create_trial("tuner1").status == "STOPPED"
    assert later.create_trial("tuner0").status == "RUNNING"


@pytest.mark.parametrize("ended", range(6))
def test_a_resumed_grid_tries_every_combination_once(tmp_path, ended):
    oracle = made("grid", tmp_path, trials=100, continuous=False)
    values = run(oracle, most=ended)
    started = oracle.create_trial("tuner0").hyperparameters.values
    rest = run(again(oracle))
    assert rest[0] == started
    tried = [(trial["units"], trial["cell"]) for trial in values + rest]
    assert sorted(tried) == sorted(itertools.product(UNITS, CELLS))
