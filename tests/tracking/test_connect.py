"""Connecting to a store: what is wrong is told before any work, and several processes may come first at once."""

import contextlib
import http.server
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time

import mlflow
import pytest

from keras_dl.errors import UserError
from keras_dl.tracking.runs import connect, hide_password, open_run
from keras_dl.tracking.settings import Settings


def refusal(project, uri, **tracking):
    """What `connect` says of a store, and that it says so soon and in one line."""
    began = time.monotonic()
    with pytest.raises(UserError) as caught:
        connect(Settings(tracking={"uri": uri, **tracking}, root=project.root), "digits")
    assert time.monotonic() - began < 10
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "uri", ["sqllite:///mlflow.db", "htp://127.0.0.1:5000", "mlflow.db", "127.0.0.1:5000", "file:x"]
)
def test_a_scheme_that_does_not_exist(project, uri):
    said = refusal(project, uri)
    assert said.startswith(
        "tracking.uri (or MLFLOW_TRACKING_URI) must begin with one of sqlite, http, https, postgresql"
    )
    assert said.endswith(f"Received: {uri!r}")


@pytest.mark.parametrize(
    "uri", ["sqlite://mlflow.db", "sqlite:/mlflow.db", "http://", "http://no host", "postgresql:/x"]
)
def test_a_uri_that_is_none(project, uri):
    assert uri in refusal(project, uri)
    assert mlflow.active_run() is None


def test_a_database_without_its_driver(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    said = refusal(project, "postgresql+psycopg2://me:secret@127.0.0.1/runs")
    assert "psycopg2" in said and said.endswith("install the driver of that database")
    assert "postgresql+psycopg2://me:***@127.0.0.1/runs" in said and "secret" not in said


@contextlib.contextmanager
def answering(status):
    """A server whose /health is fine and that answers everything else with a status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = b"OK" if self.path == "/health" else b"not for you"
            self.send_response(200 if self.path == "/health" else status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_refuses(project, status):
    with answering(status) as uri:
        said = refusal(project, uri)
    assert f"the MLflow store {uri} cannot be used: it refuses" in said
    assert "MLFLOW_TRACKING_USERNAME" in said and "MLFLOW_TRACKING_TOKEN" in said


def test_a_server_of_something_else(project):
    with answering(404) as uri:
        assert "404" in refusal(project, uri)


def test_files_that_cannot_be_written(project):
    (project.root / "file").touch()
    said = refusal(project, "sqlite:///mlflow.db", artifacts="file/below")
    assert f"the files of the runs cannot be written to {project.root}/file/below" in said
    assert "tracking.artifacts" in said


def test_passwords_are_not_shown():
    assert hide_password("at http://me:secret@host:5000/x, postgresql://a:b@c") == (
        "at http://me:***@host:5000/x, postgresql://a:***@c"
    )
    assert hide_password("http://host:5000/x?y=z@w") == "http://host:5000/x?y=z@w"


def test_a_server_that_is_not_there_is_told_at_once(project):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings = Settings(tracking={"uri": f"http://127.0.0.1:{port}"}, root=project.root)
    began = time.monotonic()
    with pytest.raises(UserError, match=rf"no MLflow server answers at http://127\.0\.0\.1:{port} .*mlflow\.yaml"):
        connect(settings, "digits")
    assert time.monotonic() - began < 3


def test_a_server_that_never_answers_is_told_within_seconds(project):
    with socket.create_server(("127.0.0.1", 0)) as listener:  # takes the connection and says nothing
        settings = Settings(tracking={"uri": f"http://127.0.0.1:{listener.getsockname()[1]}"}, root=project.root)
        began = time.monotonic()
        with pytest.raises(UserError, match="no MLflow server answers"):
            connect(settings, "digits")
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("uri", ["sqlite:///file/below/mlflow.db", "sqlite:///folder", "sqlite:///text"])
def test_a_store_that_cannot_be_made_is_told_within_seconds(project, uri):
    (project.root / "file").touch()
    (project.root / "folder").mkdir()
    (project.root / "text").write_text("no database, but long enough to be looked at\n" * 50)
    began = time.monotonic()
    with pytest.raises(UserError, match="the MLflow store sqlite:///.* cannot be used: .+") as caught:
        connect(Settings(tracking={"uri": uri}, root=project.root), "digits")
    assert time.monotonic() - began < 5
    assert "\n" not in str(caught.value)


def test_a_new_store_may_lie_in_a_new_folder(project):
    connect(Settings(tracking={"uri": "sqlite:///deep/down/runs.db"}, root=project.root), "digits")
    assert (project.root / "deep/down/runs.db").is_file()
    assert mlflow.get_experiment_by_name("digits") is not None


CONNECT = """
import sys, time
from pathlib import Path
import mlflow
from keras_dl.tracking.runs import connect, open_run
from keras_dl.tracking.settings import Settings
settings = Settings(system_metrics={"enabled": False}, root=Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
connect(settings, "digits")
with open_run(settings, f"of process {sys.argv[2]}"):
    mlflow.log_param("process", sys.argv[2])
"""


def test_first_use_of_a_new_store_by_four_processes_at_once(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING")}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CONNECT, str(tmp_path), str(number)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for number in range(4)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:  # all at once, after the slow imports
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert sorted(experiment.name for experiment in client.search_experiments()) == ["Default", "digits"]
    experiment = client.get_experiment_by_name("digits")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.params["process"] for run in runs) == ["0", "1", "2", "3"]
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_deleted_experiment_comes_back(project):
    connect(project, "digits")
    old = mlflow.get_experiment_by_name("digits")
    mlflow.delete_experiment(old.experiment_id)
    connect(project, "digits")
    now = mlflow.get_experiment_by_name("digits")
    assert (now.experiment_id, now.lifecycle_stage) == (old.experiment_id, "active")
    with open_run(project, "one") as run:
        pass
    assert run.info.experiment_id == old.experiment_id


def test_the_store_does_not_leak_into_the_environment(project):
    connect(project, "digits")
    assert "MLFLOW_TRACKING_URI" not in os.environ
    other = Settings(tracking={"uri": "sqlite:///other.db"}, root=project.root)
    assert other.tracking_uri == f"sqlite:///{project.root}/other.db"


def test_a_variable_of_the_user_stays(project, monkeypatch):
    given = f"sqlite:///{project.root}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    connect(Settings(tracking={"uri": "sqlite:///other.db"}, root=project.root), "digits")
    assert mlflow.get_tracking_uri() == given and os.environ["MLFLOW_TRACKING_URI"] == given
    assert not (project.root / "other.db").exists()
