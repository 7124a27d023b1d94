"""A store that fails while a run ends: the error is raised within seconds, and no run stays active."""

import contextlib
import os
import socket
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import mlflow
import pytest

from keras_dl.compat.mlflow import last_words
from keras_dl.errors import UserError
from keras_dl.tracking.runs import connect, open_run
from keras_dl.tracking.settings import Settings


@contextlib.contextmanager
def hung():
    """Yields the URL of a server that accepts requests and never answers."""
    end = Event()

    class Silent(BaseHTTPRequestHandler):
        def do_GET(self):
            end.wait(60)

        do_POST = do_PATCH = do_GET

    with ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        server.daemon_threads, server.block_on_close = True, False
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        end.set()
        server.shutdown()


@contextlib.contextmanager
def unreachable():
    """Yields a URL without a server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


def delete_store(project):
    for file in project.root.glob("mlflow.db*"):
        file.unlink()


@pytest.mark.parametrize("state", [unreachable, hung])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_a_server_that_does_not_answer_delays_the_end_only_by_seconds(project, state, error):
    connect(project, "digits")
    measured = Settings(system_metrics={"enabled": True, "interval": 0.2}, root=project.root)
    with state() as address:
        with pytest.raises(error), open_run(measured, "one"):
            mlflow.set_tracking_uri(address)
            time.sleep(0.5)  # until a sample of the system metrics is being sent
            started = time.monotonic()
            raise error
        assert time.monotonic() - started < 25  # MLflow's calls are otherwise limited to 30 seconds each
    assert mlflow.active_run() is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, UserError])
def test_an_error_is_raised_although_the_store_is_deleted(project, error):
    connect(project, "digits")
    with pytest.raises(error), open_run(project, "one"):
        delete_store(project)
        raise error
    assert mlflow.active_run() is None


def test_a_store_that_fails_at_the_end_of_a_run_is_reported(project):
    connect(project, "digits")
    with pytest.raises(UserError, match="mlflow.db failed .*: run .* is complete, but the store still lists it as"):
        with open_run(project, "one") as run:
            delete_store(project)
    assert mlflow.active_run() is None and run


def test_last_words_restores_the_variables(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "70")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with last_words():
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "3"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "70"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
