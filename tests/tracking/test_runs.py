"""Runs in a real store: their status, experiment, tags and artifacts."""

import multiprocessing
import os
import shutil
import socket
import sys
import threading
import time

import mlflow
import pytest

from keras_dl.compat.mlflow import SystemMetricsMonitor
from keras_dl.tracking.environment import owner
from keras_dl.tracking.runs import close_abandoned, connect, mark_error, open_run, reap
from keras_dl.tracking.settings import Settings


def ended(run):
    """Returns the run as stored now."""
    return mlflow.MlflowClient().get_run(run.info.run_id)


def test_a_successful_run_is_finished(project):
    connect(project, "digits")
    with open_run(project, "one", {"kind": "train"}) as run:
        assert mlflow.active_run().info.run_id == run.info.run_id
    assert mlflow.active_run() is None
    run = ended(run)
    assert run.info.status == "FINISHED" and run.info.run_name == "one"
    assert run.data.tags["kind"] == "train"
    assert mlflow.get_experiment(run.info.experiment_id).name == "digits"
    assert run.info.artifact_uri.startswith((project.root / "mlartifacts").as_uri())


def test_a_run_with_an_error_is_failed_and_records_it(project):
    connect(project, "digits")
    with pytest.raises(ZeroDivisionError), open_run(project, "one") as run:
        1 / 0  # noqa: B018
    assert mlflow.active_run() is None
    assert ended(run).info.status == "FAILED"
    assert ended(run).data.tags["error"] == "ZeroDivisionError: division by zero"
    text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/error.txt")
    assert text.startswith("Traceback") and "1 / 0" in text


def test_an_interrupted_run_is_killed(project):
    connect(project, "digits")
    with pytest.raises(KeyboardInterrupt), open_run(project, "one") as run:
        raise KeyboardInterrupt
    assert mlflow.active_run() is None
    assert ended(run).info.status == "KILLED"
    assert "error" not in ended(run).data.tags


def test_a_run_that_exits_is_failed(project):
    connect(project, "digits")
    with pytest.raises(SystemExit), open_run(project, "one") as run:
        sys.exit(3)
    assert ended(run).info.status == "FAILED"


def test_nested_runs_end_with_their_own_status(project):
    connect(project, "digits")
    with open_run(project, "outer") as outer:
        with pytest.raises(ValueError), open_run(project, "inner") as inner:
            raise ValueError("no")
        assert mlflow.active_run().info.run_id == outer.info.run_id
    assert (ended(outer).info.status, ended(inner).info.status) == ("FINISHED", "FAILED")
    assert ended(inner).data.tags["mlflow.parentRunId"] == outer.info.run_id


def test_a_run_is_resumed_and_a_deleted_one_is_replaced(project):
    connect(project, "digits")
    with pytest.raises(KeyboardInterrupt), open_run(project, "one") as first:
        raise KeyboardInterrupt
    with open_run(project, "other name", run_id=first.info.run_id) as again:
        assert ended(first).info.status == "RUNNING"
    assert again.info.run_id == first.info.run_id
    assert ended(first).info.status == "FINISHED" and ended(first).info.run_name == "one"
    mlflow.delete_run(first.info.run_id)
    with open_run(project, "two", run_id=first.info.run_id) as third:
        pass
    assert third.info.run_id != first.info.run_id and third.info.run_name == "two"
    with open_run(project, "three", run_id="0" * 32) as fourth:
        pass
    assert fourth.info.run_name == "three"


def test_the_tags_of_the_settings_are_set_on_every_run(project):
    tags = {"team": "speech", "kind": "other"}
    settings = Settings(tracking={"tags": tags}, system_metrics={"enabled": False}, root=project.root)
    connect(settings, "digits")
    with open_run(settings, "one", {"kind": "trial"}) as run:
        pass
    assert {"team": "speech", "kind": "trial"}.items() <= ended(run).data.tags.items()


def test_system_metrics_follow_the_settings(project):
    settings = Settings(system_metrics={"enabled": True, "interval": 0.2}, root=project.root)
    connect(settings, "digits")
    with open_run(settings, "measured") as run:
        deadline = time.monotonic() + 60
        while "system/cpu_utilization_percentage" not in ended(run).data.metrics and time.monotonic() < deadline:
            time.sleep(0.1)
    assert "system/cpu_utilization_percentage" in ended(run).data.metrics
    with open_run(project, "not measured") as run:
        time.sleep(0.5)
    assert not any(name.startswith("system/") for name in ended(run).data.metrics)


def test_failing_system_metrics_are_reported_once(project, monkeypatch, caplog):
    samples = threading.Semaphore(0)

    def fail(monitor):
        samples.release()
        raise OSError("no such device")

    monkeypatch.setattr(SystemMetricsMonitor, "collect_metrics", fail)
    settings = Settings(system_metrics={"enabled": True, "interval": 0.01}, root=project.root)
    connect(settings, "digits")
    with open_run(settings, "one"):
        for _ in range(3):
            assert samples.acquire(timeout=60)
    messages = [record.getMessage() for record in caplog.records if record.name == "keras_dl.tracking.runs"]
    assert messages == ["system metrics could not be logged: no such device"]


def test_an_active_run_is_kept(project, empty_store):
    other = project.root / "other"
    other.mkdir()
    shutil.copy(empty_store, other / "mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{other}/mlflow.db")
    before = (project.root / "mlflow.db").read_bytes()
    with mlflow.start_run() as outer:
        connect(project, "digits")
        assert mlflow.get_tracking_uri() == f"sqlite:///{other}/mlflow.db"
        with open_run(project, "ours") as run:
            pass
        assert mlflow.active_run().info.run_id == outer.info.run_id
        assert ended(run).data.tags["mlflow.parentRunId"] == outer.info.run_id
        assert ended(run).info.experiment_id == outer.info.experiment_id
    assert mlflow.get_experiment_by_name("digits") is None
    assert (project.root / "mlflow.db").read_bytes() == before


def test_mark_error_truncates_long_messages(project):
    connect(project, "digits")
    with open_run(project, "one") as run:
        mark_error(run.info.run_id, "x" * 10_000, "all of it")
    assert set(ended(run).data.tags["error"]) == {"x"} and len(ended(run).data.tags["error"]) >= 1000
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/error.txt") == "all of it"


def test_a_run_records_its_owner(project):
    connect(project, "digits")
    with open_run(project, "one") as run:
        assert ended(run).data.tags["owner"] == owner()


ABANDONED = """
from keras_dl.tracking.runs import connect, open_run
connect(settings, "digits")
with open_run(settings, "outer") as outer, open_run(settings, "inner") as inner:
    pipe.send([outer.info.run_id, inner.info.run_id])
    pipe.recv()
"""


def test_reap_closes_the_runs_of_processes_that_have_ended(project, child):
    connect(project, "digits")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("digits").experiment_id
    ours, theirs = multiprocessing.Pipe()
    process = child(ABANDONED, settings=project, pipe=theirs)
    assert ours.poll(120)
    abandoned = ours.recv()
    host = socket.gethostname()
    others = {
        "alive": owner(),
        "another host": "elsewhere.example.org:1:1",
        "reused process id": f"{host}:{os.getpid()}:1000000000",
        "no owner": None,
        "invalid owner": f"{host}:x:y",
    }
    others = {
        client.create_run(experiment, tags=name and {"owner": name}).info.run_id: case for case, name in others.items()
    }
    assert reap(experiment, but=set(others)) == 0
    process.kill()
    process.join()
    assert reap(experiment, but={abandoned[0]}) == 2
    assert {others[run_id]: client.get_run(run_id).info.status for run_id in others} == {
        "alive": "RUNNING", "another host": "RUNNING", "reused process id": "KILLED",
        "no owner": "RUNNING", "invalid owner": "RUNNING",
    }  # fmt: skip
    assert [client.get_run(run_id).info.status for run_id in abandoned] == ["RUNNING", "KILLED"]
    assert reap(experiment) == 1
    assert reap(experiment) == 0


def test_close_abandoned_closes_a_run_and_its_descendants(project):
    connect(project, "digits")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("digits").experiment_id
    ids = [client.create_run(experiment).info.run_id]
    for _ in range(2):
        ids.append(client.create_run(experiment, tags={"mlflow.parentRunId": ids[-1]}).info.run_id)
    done = client.create_run(experiment, tags={"mlflow.parentRunId": ids[0]}).info.run_id
    client.set_terminated(done, "FINISHED")
    beside = client.create_run(experiment).info.run_id
    close_abandoned(ids[0])
    close_abandoned("0" * 32)
    assert [client.get_run(run_id).info.status for run_id in ids] == ["KILLED"] * 3
    assert [client.get_run(run_id).info.status for run_id in (done, beside)] == ["FINISHED", "RUNNING"]
