"""Delivery to a store that is temporarily unreachable or has lost its runs, and by several processes at once."""

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import mlflow
import pytest
import requests

from keras_dl.tracking import journal as journal_module
from keras_dl.tracking.journal import Delivery, Journal
from keras_dl.tracking.outbox import Outbox
from keras_dl.tracking.runs import connect
from keras_dl.tracking.settings import Settings

from ..conftest import free_port


class Server:
    """An MLflow server on the store of a project, with one worker."""

    def __init__(self, project):
        self.project = project
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self):
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.project.root}/mlflow.db"]
        command += ["--artifacts-destination", str(self.project.root / "artifacts")]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, env=environment, start_new_session=True, **quiet)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                return requests.get(self.uri + "/health", timeout=1)
            except requests.RequestException:
                time.sleep(0.1)
        raise TimeoutError("the MLflow server does not start")

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.mark.slow
def test_events_recorded_while_a_server_is_down_are_delivered_later(project, capsys):
    server = Server(project)
    server.start()
    try:
        settings = Settings(tracking={"uri": server.uri}, system_metrics={"enabled": False}, root=project.root)
        connect(settings, "digits")
        experiment = mlflow.get_experiment_by_name("digits").experiment_id
        parent = mlflow.MlflowClient().create_run(experiment).info.run_id
        delivery = Delivery(settings, experiment).start()
        folder = project.root / "searches/digits"
        first = Journal(delivery, folder / "trial_00", "trial-1", {"trial": "00"}, parent)
        first.metrics({"loss": 0.0}, 0)
        assert delivery.flush(60)

        server.kill()
        started = time.monotonic()
        for epoch in range(1, 50):
            first.metrics({"loss": float(epoch)}, epoch)
        first.text("kept", "notes.txt")
        first.end("FINISHED")
        second = Journal(delivery, folder / "trial_01", "trial-2", {"trial": "01"}, parent)
        second.metrics({"loss": 1.0}, 0)
        assert time.monotonic() - started < 2
        assert not delivery.flush(1)
        assert time.monotonic() - started < 5
        printed = wait_for_failure(capsys)
        assert f"{server.uri} does not answer" in printed and f"stored in {folder}" in printed

        server.start()
        assert delivery.flush(60)
        assert delivery.stop(5)
        assert capsys.readouterr().err == f"the MLflow store {server.uri} is back; delivering the stored runs\n"
        run = mlflow.get_run(first.run_id(0))
        assert run.info.status == "FINISHED" and mlflow.get_run(second.run_id(0)).info.status == "RUNNING"
        history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
        assert sorted(point.step for point in history) == list(range(50))
        assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/notes.txt") == "kept"
        assert len(mlflow.search_runs([experiment], output_format="list")) == 3
    finally:
        server.kill()


def test_a_store_that_is_unreachable_at_first_receives_all_events(project, experiment, parent, monkeypatch, capsys):
    client = mlflow.MlflowClient()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(journal_module, "RETRY", 0.01)
    store = project.tracking_uri
    mlflow.set_tracking_uri("http://127.0.0.1:9")  # no server
    delivery = Delivery(project, experiment).start()
    mlflow.set_tracking_uri(store)
    journal = Journal(delivery, project.root / "searches/digits/trial_00", "trial-1", {"trial": "00"}, parent)
    for epoch in range(20):
        journal.metrics({"loss": float(epoch)}, epoch)
    journal.end("FINISHED")
    printed = wait_for_failure(capsys)
    delivery._client = client
    assert delivery.stop(60)
    run = mlflow.get_run(journal.run_id(0))
    assert run.info.status == "FINISHED" and run.data.tags["mlflow.parentRunId"] == parent
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 20
    printed = (printed + capsys.readouterr().err).splitlines()
    assert len(printed) == 2 and printed[1].endswith("is back; delivering the stored runs")


def wait_for_failure(capsys):
    """Waits until a failure of the store is reported and returns what was printed."""
    printed, deadline = "", time.monotonic() + 60
    while "does not answer" not in (printed := printed + capsys.readouterr().err):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return printed


def test_a_store_that_stays_unreachable_does_not_stop_training(project, experiment, parent, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store = project.tracking_uri
    mlflow.set_tracking_uri("http://user:secret@127.0.0.1:9")  # no server
    delivery = Delivery(project, experiment).start()
    journal = Journal(delivery, project.root / "searches/digits/trial_00", "trial-1", {"trial": "00"}, parent)
    journal.end("FINISHED")
    started = time.monotonic()
    assert not delivery.stop(1)
    assert time.monotonic() - started < 30
    printed = wait_for_failure(capsys)
    assert "http://user:***@127.0.0.1:9" in printed and "secret" not in printed and printed.count("\n") == 1
    mlflow.set_tracking_uri(store)
    later = Delivery(project, experiment).start()
    later.adopt(project.root / "searches/digits", parent)
    assert later.stop(60)
    (run,) = mlflow.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent}'", output_format="list")
    assert run.info.status == "FINISHED"


def test_concurrent_deliveries_of_one_journal_create_one_run(project, experiment, parent):
    client = mlflow.MlflowClient()
    delivery = Delivery(project, experiment)  # not started
    folders = [project.root / f"searches/digits/trial_{number:02}" for number in range(5)]
    for number, folder in enumerate(folders):
        journal = Journal(delivery, folder, f"trial-{number + 1}", {"trial": f"{number:02}"}, parent)
        for epoch in range(20):
            journal.metrics({"loss": epoch}, epoch)

    def deliver(_):
        for folder in folders:
            Outbox(folder, parent).deliver(mlflow.MlflowClient(), experiment)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(deliver, range(3)))
    runs = mlflow.search_runs([experiment], f"tags.mlflow.parentRunId = '{parent}'", output_format="list")
    assert sorted(run.data.tags["trial"] for run in runs) == ["00", "01", "02", "03", "04"]
    for run in runs:
        assert len(client.get_metric_history(run.info.run_id, "loss")) == 20


def replace_store(project, empty_store):
    """Replaces the project's store with an empty one and returns a new parent run in it."""
    mlflow.tracking._tracking_service.utils._get_store().engine.dispose()
    for file in project.root.glob("mlflow.db*"):
        file.unlink()
    shutil.copy(empty_store, project.root / "mlflow.db")
    connect(project, "digits")
    return mlflow.MlflowClient().create_run(mlflow.get_experiment_by_name("digits").experiment_id).info.run_id


@pytest.mark.parametrize("adopted", [False, True])
def test_runs_that_the_store_has_lost_are_delivered_again(project, experiment, parent, empty_store, adopted):
    folder = project.root / "searches/digits"
    delivery = Delivery(project, experiment).start()
    trial = Journal(delivery, folder / "trial_00", "trial-1", {"trial": "00"}, parent)
    execution = {"trial": "00", "execution": "1"}
    execution = Journal(delivery, folder / "trial_00/execution_1", "execution-2", execution, trial)
    execution.metrics({"loss": 0.5}, 0)
    assert delivery.flush(60)
    lost = {trial.run_id(0), execution.run_id(0)}
    new = replace_store(project, empty_store)
    if adopted:  # by a later process, without new events
        delivery.stop(5)
        delivery = Delivery(project, experiment).start()
        delivery.adopt(folder, new)
    else:
        execution.metrics({"loss": 0.25}, 1)
        execution.end("FINISHED")
    assert delivery.stop(60)
    runs = mlflow.search_runs([experiment], "tags.trial = '00'", output_format="list")
    runs = {run.info.run_name: run for run in runs}
    assert len(runs) == 2 and not lost & {run.info.run_id for run in runs.values()}
    assert runs["trial-1"].data.tags["mlflow.parentRunId"] == (new if adopted else parent)
    assert runs["execution-2"].data.tags["mlflow.parentRunId"] == runs["trial-1"].info.run_id
    assert runs["execution-2"].data.metrics["loss"] == (0.5 if adopted else 0.25)


def test_a_deleted_journal_is_not_recreated(project):
    connect(project, "digits")
    Outbox(project.root / "searches/digits/trial_00", "0" * 32).deliver(mlflow.MlflowClient(), "0")
    assert not (project.root / "searches").exists()
