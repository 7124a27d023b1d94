"""Lost, late and restarted workers, and a restarted chief: no trial is lost or repeated."""

import time

import pytest

from .served import client, new_chief, new_oracle, run_all, run_one, score, silence, thread


@pytest.fixture
def oracle(tmp_path):
    return new_oracle(tmp_path / "waves", trials=2)


def death(reason="signal 11 (SIGSEGV)", crash=True):
    return {"reason": reason, "crash": crash}


def test_the_trial_of_a_silent_worker_goes_to_another_and_its_late_reports_are_ignored(oracle, monkeypatch):
    monkeypatch.setattr("keras_dl.tuning.distributed.chief.FAREWELL", 0.1)  # the silent worker never takes leave
    done = []
    with new_chief(oracle) as chief:
        late, good = client(chief, "late"), client(chief, "good")
        lost = late.create_trial()
        late.update_trial(lost.trial_id, {"val_loss": 5.0}, 0)
        silence(chief, "late")
        assert good.create_trial().trial_id == lost.trial_id
        with thread(run_all, good, done):
            assert late.update_trial(lost.trial_id, {"val_loss": 0.0}, 1).status == "STOPPED" and late.lost
            lost.status, lost.message = "FAILED", "too late"
            late.end_trial(lost)
            chief.wait()
    assert sorted(done) == ["0", "1"]
    trial = oracle.trials[lost.trial_id]
    assert (trial.status, trial.score, trial.message) == ("COMPLETED", score(trial), None)
    assert trial.metrics.get_best_value("val_loss") == score(trial)


def test_a_lost_worker_gets_another_trial(oracle):
    with new_chief(oracle) as chief:
        late, good = client(chief, "late"), client(chief, "good")
        lost = late.create_trial()
        silence(chief, "late")
        assert good.create_trial().trial_id == lost.trial_id
        assert late.update_trial(lost.trial_id, {"val_loss": 0.0}, 1).status == "STOPPED"
        late.end_trial(lost)
        assert late.create_trial().trial_id != lost.trial_id and not late.lost


def test_heartbeats_renew_the_lease_of_a_worker(oracle):
    with new_chief(oracle, lease=1.2) as chief, client(chief, "a") as worker:
        trial = worker.create_trial()
        chief.lease = 60.0  # the worker sends a heartbeat every 0.1 s
        heard = chief._heard["a"]
        while chief._heard["a"] == heard:
            time.sleep(0.02)
        chief._expire()
        assert oracle.ongoing_trials["a"].trial_id == trial.trial_id
        assert chief.workers == ["a"]


def test_a_worker_that_leaves_releases_its_trial_at_once(oracle):
    with new_chief(oracle) as chief:
        with client(chief, "a") as worker:
            trial = worker.create_trial()
        assert chief.workers == []
        assert client(chief, "b").create_trial().trial_id == trial.trial_id


def test_idle_workers_wait_until_the_last_trial_has_ended(oracle):
    done = []
    with new_chief(oracle) as chief:
        lost = client(chief, "lost").create_trial()
        with thread(run_all, client(chief, "reserve"), done) as reserve:
            while len(oracle.end_order) < 1:
                time.sleep(0.02)
            assert reserve.is_alive()
            silence(chief, "lost")
            chief.wait()
    assert done[-1] == lost.trial_id and sorted(done) == ["0", "1"]


def test_the_chief_does_not_wait_for_a_dismissed_worker(oracle):
    with new_chief(oracle) as chief, client(chief, "a") as worker:
        for _ in range(2):
            run_one(worker, worker.create_trial())
        assert worker.create_trial().status == "STOPPED"
        worker._sign("alive", True)  # it still delivers its results
        assert chief.workers == []
        chief.wait()


def crash(chief, name, times, died, epoch=None):
    """Lets a worker die in its trial several times; each new process asks for the trial again."""
    worker = client(chief, name)
    trial = worker.create_trial()
    for _ in range(times):
        if epoch is not None:
            worker.update_trial(trial.trial_id, {"val_loss": 1.0}, epoch)
        worker = client(chief, name, died=died)
        again = worker.create_trial()
    return trial, again, worker


def test_a_trial_that_crashes_its_workers_fails_and_the_search_continues(oracle):
    with new_chief(oracle) as chief:
        trial, again, worker = crash(chief, "a", 3, death())
        assert again.trial_id != trial.trial_id
        failed = oracle.trials[trial.trial_id]
        assert failed.status == "FAILED"
        assert failed.message == (
            "its worker died 3 times without finishing one of its epochs; most recently: signal 11 (SIGSEGV)"
        )
        run_one(worker, again)
        run_all(worker, [])
        chief.wait()
    assert [trial.status for trial in oracle.trials.values()] == ["FAILED", "COMPLETED"]


def test_a_trial_that_finishes_epochs_between_crashes_continues(oracle):
    with new_chief(oracle) as chief:
        trial, again, _ = crash(chief, "a", 8, death(), epoch=1)
        assert again.trial_id == trial.trial_id and oracle.end_order == []


def test_more_kills_from_outside_than_crashes_are_tolerated(oracle):
    with new_chief(oracle) as chief:
        trial, again, _ = crash(chief, "a", 19, death("signal 9 (SIGKILL)", crash=False))
        assert again.trial_id == trial.trial_id and oracle.end_order == []
        assert client(chief, "a", died=death(crash=False)).create_trial().trial_id != trial.trial_id
        assert oracle.end_order == [trial.trial_id]


def test_a_worker_continues_when_its_chief_restarts(tmp_path):
    oracle, done = new_oracle(tmp_path / "waves", trials=6), []
    with new_chief(oracle) as chief:
        port, worker = chief.port, client(chief, "a")
        run_one(worker, worker.create_trial())
        running = worker.create_trial()
        worker.update_trial(running.trial_id, {"val_loss": 3.0}, 0)
    with thread(run_all, worker, done):
        time.sleep(0.5)  # it calls without an answer
        again = new_oracle(tmp_path / "waves", trials=6, reload=True)
        with new_chief(again, port) as chief:
            chief.wait()
    assert done[0] == running.trial_id and sorted(done) == ["1", "2", "3", "4", "5"]
    assert all(trial.score == score(trial) for trial in again.trials.values())
