"""Connecting to a store: errors are reported quickly, and several processes can create a store at once."""

import multiprocessing
import os
import re
import socket
import sqlite3
import sys
import time

import mlflow
import pytest

from keras_dl.errors import UserError
from keras_dl.tracking.runs import connect, open_run
from keras_dl.tracking.settings import Settings, hide_password

from ..answers import answering
from ..conftest import free_port


def refusal(project, uri, **tracking):
    """Returns the message of `connect`: one line, raised within seconds where MLflow alone retries for minutes."""
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        connect(Settings(tracking={"uri": uri, **tracking}, root=project.root), "digits")
    assert time.monotonic() - started < 60
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "uri", ["sqllite:///mlflow.db", "htp://127.0.0.1:5000", "mlflow.db", "127.0.0.1:5000", "file:x"]
)
def test_an_unknown_scheme_is_rejected(project, uri):
    message = refusal(project, uri)
    assert message.startswith(
        "tracking.uri (or MLFLOW_TRACKING_URI) must start with one of sqlite, http, https, postgresql"
    )
    assert message.endswith(f"Received: {uri!r}")


@pytest.mark.parametrize(
    "uri", ["sqlite://mlflow.db", "sqlite:/mlflow.db", "http://", "http://no host", "postgresql:/x"]
)
def test_an_invalid_uri_is_rejected(project, uri):
    assert uri in refusal(project, uri)
    assert mlflow.active_run() is None


def test_a_missing_database_driver_is_reported(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    message = refusal(project, "postgresql+psycopg2://me:secret@127.0.0.1/runs")
    assert "psycopg2" in message and message.endswith("install the driver of this database")
    assert "postgresql+psycopg2://me:***@127.0.0.1/runs" in message and "secret" not in message


def answers(status):
    """Answers /health with 200 and all other requests with the given status."""
    return lambda method, path: (200, b"OK") if path == "/health" else (status, b"denied")


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_denies_access_is_reported(project, status):
    with answering(answers(status)) as uri:
        message = refusal(project, uri)
    assert f"the MLflow store {uri} cannot be used: access denied" in message
    assert "MLFLOW_TRACKING_USERNAME" in message and "MLFLOW_TRACKING_TOKEN" in message


@pytest.mark.parametrize("login", ["", "me:secret@"])
def test_a_server_that_is_not_mlflow_is_reported(project, login):
    with answering(answers(404)) as uri:
        message = refusal(project, uri.replace("://", f"://{login}"))
    assert "404" in message and "no MLflow server answers" not in message and "secret" not in message


def test_artifacts_that_cannot_be_written_are_reported(project):
    (project.root / "file").touch()
    message = refusal(project, "sqlite:///mlflow.db", artifacts="file/below")
    assert f"cannot write the artifacts of runs to {project.root}/file/below" in message
    assert "tracking.artifacts" in message


def test_a_bug_is_not_reported_as_an_unusable_store(project, monkeypatch):
    monkeypatch.setattr(mlflow, "search_experiments", lambda max_results: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        connect(project, "digits")


def test_passwords_are_hidden():
    assert hide_password("at http://me:secret@host:5000/x, postgresql://a:b@c") == (
        "at http://me:***@host:5000/x, postgresql://a:***@c"
    )
    assert hide_password("http://host:5000/x?y=z@w") == "http://host:5000/x?y=z@w"


def test_an_unreachable_server_is_reported(project):
    port = free_port()
    message = refusal(project, f"http://127.0.0.1:{port}")
    assert message.startswith(f"no MLflow server answers at http://127.0.0.1:{port} ") and "mlflow.yaml" in message


def test_a_server_that_never_answers_is_reported(project):
    with socket.create_server(("127.0.0.1", 0)) as listener:  # accepts the connection and sends nothing
        message = refusal(project, f"http://127.0.0.1:{listener.getsockname()[1]}")
    assert message.startswith("no MLflow server answers")


@pytest.mark.parametrize("uri", ["sqlite:///file/below/mlflow.db", "sqlite:///folder", "sqlite:///text"])
def test_a_store_that_cannot_be_created_is_reported(project, uri):
    (project.root / "file").touch()
    (project.root / "folder").mkdir()
    (project.root / "text").write_text("not a database, but long enough to be read\n" * 50)
    assert re.match("the MLflow store sqlite:///.* cannot be used: .+", refusal(project, uri))


CONNECT = """
import mlflow
from keras_dl.tracking.runs import connect, open_run

start.recv()
connect(settings, "digits")
with open_run(settings, f"of process {number}"):
    mlflow.log_param("process", number)
"""


def test_four_processes_create_a_store_in_a_new_folder_at_once(project, child):
    uri = "sqlite:///deep/down/runs.db"
    settings = Settings(tracking={"uri": uri}, system_metrics={"enabled": False}, root=project.root)
    pipes = [multiprocessing.Pipe() for _ in range(4)]
    processes = [child(CONNECT, settings=settings, number=i, start=ours) for i, (ours, _) in enumerate(pipes)]
    for _, other in pipes:
        other.send("start")
    for process in processes:
        process.join(240)
        assert process.exitcode == 0
    file = project.root / "deep" / "down" / "runs.db"
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{file}")
    assert sorted(experiment.name for experiment in client.search_experiments()) == ["Default", "digits"]
    experiment = client.get_experiment_by_name("digits")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.params["process"] for run in runs) == ["0", "1", "2", "3"]
    with sqlite3.connect(file) as store:
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_deleted_experiment_is_restored(project):
    connect(project, "digits")
    old = mlflow.get_experiment_by_name("digits")
    mlflow.delete_experiment(old.experiment_id)
    connect(project, "digits")
    now = mlflow.get_experiment_by_name("digits")
    assert (now.experiment_id, now.lifecycle_stage) == (old.experiment_id, "active")
    with open_run(project, "one") as run:
        pass
    assert run.info.experiment_id == old.experiment_id


def test_connecting_does_not_set_environment_variables(project):
    connect(project, "digits")
    assert "MLFLOW_TRACKING_URI" not in os.environ
    other = Settings(tracking={"uri": "sqlite:///other.db"}, root=project.root)
    assert other.tracking_uri == f"sqlite:///{project.root}/other.db"


def test_a_variable_set_by_the_user_is_kept(project, monkeypatch):
    given = f"sqlite:///{project.root}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    connect(Settings(tracking={"uri": "sqlite:///other.db"}, root=project.root), "digits")
    assert mlflow.get_tracking_uri() == given and os.environ["MLFLOW_TRACKING_URI"] == given
    assert not (project.root / "other.db").exists()


def test_a_registry_that_cannot_be_used(project, monkeypatch):
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "ftp://x")
    with pytest.raises(UserError, match="cannot be used: Model Registry features are not supported .* 'ftp://x'"):
        connect(project)
