"""Processes for the tests of this folder: children with MLflow imported, and a real MLflow server."""

import contextlib
import multiprocessing
import os
import subprocess
import sys
import time

import mlflow
import pytest
import requests

from keras_dl.tracking.runs import connect

# If pytest runs in the background, its child processes would ignore Ctrl-C.
START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from keras_dl.cli import main
sys.exit(main())
"""


@pytest.fixture(scope="session")
def child():
    """child(code, **variables): a process that runs the code with these variables and MLflow already imported.

    MLflow and its SQLite store are imported once, which takes two seconds of processor time.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["keras_dl.tracking.journal", "mlflow.store.tracking.sqlalchemy_store"])

    def start(code, **variables):
        process = context.Process(target=exec, args=(code, variables))
        process.start()
        return process

    return start


@pytest.fixture
def experiment(project):
    """The id of the experiment `digits` of the project, with MLflow connected."""
    connect(project, "digits")
    return mlflow.get_experiment_by_name("digits").experiment_id


@pytest.fixture
def parent(experiment):
    """The id of a new run."""
    return mlflow.MlflowClient().create_run(experiment).info.run_id


@pytest.fixture
def start_ui(free_port):
    """start_ui(project, *arguments): runs `keras-dl ui` in a context; yields its URL, printed lines and process."""

    @contextlib.contextmanager
    def start(project, *arguments):
        port = free_port()
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", START, "ui", "--port", str(port), *arguments]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment, cwd=project.root
        )
        url, lines = f"http://127.0.0.1:{port}", []
        try:
            while process.poll() is None and not "".join(lines).endswith(f"{url}\n"):
                lines.append(process.stdout.readline())
            _wait(process, url)
            yield url, lines, process
        finally:
            if process.poll() is None:
                _stop(process)

    return start


def _wait(process, url):
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server has ended"
        with contextlib.suppress(requests.ConnectionError):
            assert requests.get(f"{url}/health", timeout=5).text == "OK"
            return
        time.sleep(0.1)
    raise AssertionError("the server does not answer")


def _stop(process):
    process.terminate()  # also ends the server that it started
    try:
        process.wait(30)
    finally:
        process.kill()
        process.wait()
