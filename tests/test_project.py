"""`keras-dl list`: pipelines, registered models and their exports."""

import re

import mlflow
import pytest
import tensorflow as tf

from keras_dl import project as project_module
from keras_dl.project import show_project
from keras_dl.tracking.runs import connect
from keras_dl.tracking.settings import Settings

from .release.versions import register
from .served import serving


@pytest.fixture(autouse=True)
def terminal_without_a_server(monkeypatch, free_port):
    """A terminal of 200 columns, and a URL without a server."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(project_module, "DEFAULT_URL", f"http://127.0.0.1:{free_port()}")


def save(folder):
    module = tf.Module()
    function = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": function})


def rows(output, *names):
    """Returns the cells of the rows whose first cell is one of the names."""
    cells = [re.split(r"\s{2,}", line.strip()) for line in output.splitlines()]
    return [row for row in cells if row[0] in names]


def test_an_empty_project(tmp_path, capsys):
    show_project(Settings(root=tmp_path))
    output = capsys.readouterr().out
    assert f"no pipelines in {tmp_path}/pipelines: keras-dl init creates one" in output
    assert "no registered models yet: keras-dl tune PIPELINE" in output
    assert list(tmp_path.iterdir()) == []  # no store is created


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


def test_models_are_listed_with_versions_aliases_and_exports(project, capsys, monkeypatch):
    connect(project, "digits")
    for value in (0.5, 0.75, 0.123456):
        register(project, "digits", value, metric="error_rate")
    register(project, "speech", 0.3, metric="error_rate")
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
    with serving("digits", project.saved_models / "digits") as url:
        monkeypatch.setattr(project_module, "DEFAULT_URL", url)
        show_project(project)
    served = {(row[0], row[1]): row[-1] for row in rows(capsys.readouterr().out, "digits", "speech")}
    assert served == {("digits", "3"): "yes", ("digits", "2"): "-", ("digits", "1"): "-", ("speech", "1"): "-"}


def test_a_version_registered_by_another_program_is_listed(project, capsys):
    connect(project)
    client = mlflow.MlflowClient()
    client.create_registered_model("theirs")
    client.create_model_version("theirs", "s3://bucket/model")
    show_project(project)
    assert rows(capsys.readouterr().out, "theirs") == [["theirs", "1", "-", "-", "-", "-", "-"]]
