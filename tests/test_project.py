"""A project folder: started, listed, and the example that the guide shows."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import mlflow
import pytest
import tensorflow as tf
import uvicorn

from keras_dl import project as project_module
from keras_dl.project import show_project
from keras_dl.release import registry
from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.inference import Inference
from keras_dl.serving.server.metrics import Metrics
from keras_dl.serving.server.rest.app import create_app
from keras_dl.serving.server.store import ModelStore
from keras_dl.tracking.runs import connect, open_run
from keras_dl.tracking.settings import Settings

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def wide_and_unserved(monkeypatch):
    """A terminal of 200 columns, and an address where nobody serves."""
    monkeypatch.setenv("COLUMNS", "200")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setattr(project_module, "DEFAULT_URL", f"http://127.0.0.1:{port}")


def register(settings, name, value):
    connect(settings, name)
    with open_run(settings, "train") as run:
        client = mlflow.MlflowClient()
        model = client.create_logged_model(run.info.experiment_id, source_run_id=run.info.run_id)
        client.finalize_logged_model(model.model_id, "READY")
    registry.register(settings, name, model.model_uri, "error_rate", value, "min", "same")


def save(folder):
    module = tf.Module()
    function = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": function})


def rows(output, *names):
    """The cells of the rows that begin with one of the names."""
    cells = [re.split(r"\s{2,}", line.strip()) for line in output.splitlines()]
    return [row for row in cells if row[0] in names]


def test_a_project_with_nothing_in_it(tmp_path, capsys):
    show_project(Settings(root=tmp_path))
    output = capsys.readouterr().out
    assert f"no pipelines in {tmp_path}/pipelines: keras-dl init makes a first one" in output
    assert "no registered models yet: keras-dl tune PIPELINE" in output
    assert list(tmp_path.iterdir()) == []  # looking makes no store


def test_pipelines_are_listed_with_their_first_line(project, capsys):
    folder = project.root / "pipelines"
    folder.mkdir()
    (folder / "b.py").write_text('"""Reads.\n\nAt length."""\nraise RuntimeError("never run")\n')
    (folder / "a.py").write_text("x = 1\n")
    (folder / "broken.py").write_text("def (\n")
    (folder / "notes.txt").touch()
    show_project(project)
    output = capsys.readouterr().out
    assert rows(output, "pipelines/a.py", "pipelines/b.py") == [["pipelines/a.py"], ["pipelines/b.py", "Reads."]]
    ((_, problem),) = rows(output, "pipelines/broken.py")
    assert problem.startswith("(cannot be read: ") and "notes" not in output
    assert "no registered models yet" in output


@contextlib.contextmanager
def serving(folders):
    store = ModelStore([ModelConfig(name, folder) for name, folder in folders.items()])
    with store, socket.create_server(("127.0.0.1", 0)) as listener:
        assert store.polled.wait(60)
        # Setting up a log closes the handlers that are there, and absl's closes the stream that pytest reads.
        server = uvicorn.Server(
            uvicorn.Config(create_app(Inference(store, Metrics())), log_config=None, lifespan="off")
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


def test_models_with_their_versions_aliases_and_places(project, capsys, monkeypatch):
    for value in (0.5, 0.75, 0.123456):
        register(project, "digits", value)
    register(project, "speech", 0.3)
    for version in ("1", "3"):
        save(project.saved_models / "digits" / version)
    (project.saved_models / "digits" / ".withdrawn-2").mkdir()
    show_project(project)
    output = capsys.readouterr().out
    header = "model version alias metric test value exported served".split()
    assert [line.split() for line in output.splitlines() if line.split() == header]
    assert rows(output, "digits", "speech") == [
        ["digits", "3", "champion", "error_rate", "0.1235", "yes", "-"],
        ["digits", "2", "challenger", "error_rate", "0.75", "withdrawn", "-"],
        ["digits", "1", "-", "error_rate", "0.5", "yes", "-"],
        ["speech", "1", "champion", "error_rate", "0.3", "-", "-"],
    ]
    with serving({"digits": project.saved_models / "digits"}) as url:
        monkeypatch.setattr(project_module, "DEFAULT_URL", url)
        show_project(project)
    served = {(row[0], row[1]): row[-1] for row in rows(capsys.readouterr().out, "digits", "speech")}
    assert served == {("digits", "3"): "yes", ("digits", "2"): "-", ("digits", "1"): "-", ("speech", "1"): "-"}


def test_a_version_that_somebody_else_registered(project, capsys):
    connect(project)
    client = mlflow.MlflowClient()
    client.create_registered_model("theirs")
    client.create_model_version("theirs", "s3://bucket/model")
    show_project(project)
    assert rows(capsys.readouterr().out, "theirs") == [["theirs", "1", "-", "-", "-", "-", "-"]]


LIST = """
import sys
from keras_dl.cli import main
status = main(["list"])
assert not {"tensorflow", "keras", "keras_tuner"} & set(sys.modules), "imported"
sys.exit(status)
"""


def test_the_list_imports_no_tensorflow(project):
    register(project, "digits", 0.5)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run([sys.executable, "-c", LIST], env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert rows(answer.stdout, "digits")[0][:3] == ["digits", "1", "champion"]
