"""The environment of a run: commit and changes, versions, devices, and whether its process has ended."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import time

import mlflow
import pytest

from keras_dl.pipeline import load_pipeline
from keras_dl.tracking.environment import command_line, environment, git_diff, is_gone, owner
from keras_dl.tracking.runs import connect, log_origin, open_run

PIPELINE = '''
"""A pipeline that is never built."""
def data(hp): ...
def build(hp): ...
'''


def ended(run):
    """Returns the run as stored now."""
    return mlflow.MlflowClient().get_run(run.info.run_id)


def artifacts(run):
    return {file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)}


@pytest.fixture
def pipeline(project):
    file = project.root / "pipelines" / "nothing.py"
    file.parent.mkdir()
    file.write_text(PIPELINE)
    pipeline = load_pipeline(file)
    pipeline.seed, pipeline.source = 7, "tfds:mnist"
    return pipeline


def git(folder, *arguments):
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    answer = subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True)
    return answer.stdout.strip()


def test_log_origin_records_source_commit_and_environment(project, pipeline):
    connect(project, "nothing")
    git(project.root, "init", "--quiet")
    git(project.root, "add", "pipelines")
    git(project.root, "commit", "--quiet", "--message", "first")
    with open_run(project, "one") as run:
        log_origin(pipeline)
    tags = ended(run).data.tags
    assert (tags["pipeline"], tags["data"], tags["seed"]) == ("nothing", "tfds:mnist", "7")
    assert tags["git_commit"] == git(project.root, "rev-parse", "HEAD")
    assert tags["git_dirty"] == "True"  # mlflow.yaml is not committed
    assert tags["pipeline_digest"] == hashlib.sha256(PIPELINE.encode()).hexdigest()
    assert "CPU:0" in tags["devices"] and tags["cpu"]
    assert artifacts(run) == {"environment.json", "git_diff.patch", "pipeline"}
    assert "# untracked: mlflow.yaml" in mlflow.artifacts.load_text(f"{run.info.artifact_uri}/git_diff.patch")
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/pipeline/nothing.py") == PIPELINE
    described = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/environment.json"))
    assert described["packages"]["tensorflow"] and described["packages"]["mlflow"] == mlflow.__version__
    assert described["backend"] == "tensorflow" and described["cpu_count"] == os.cpu_count()
    assert described["git_commit"] == tags["git_commit"] and described["host"] == socket.gethostname()
    assert tags["command"] == described["command"] == command_line()


def test_log_origin_records_the_modules_beside_the_file(project, pipeline):
    (pipeline.file.parent / "kdl_parts").mkdir()
    (pipeline.file.parent / "kdl_parts" / "scale.py").write_text("BY = 2")
    pipeline.file.write_text(f"import kdl_parts.scale\n{PIPELINE}")
    pipeline = load_pipeline(pipeline.file)
    connect(project, "nothing")
    with open_run(project, "one") as run:
        log_origin(pipeline)
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/pipeline/kdl_parts/scale.py") == "BY = 2"
    assert "kdl_parts" in mlflow.artifacts.load_text(f"{run.info.artifact_uri}/pipeline/nothing.py")


def test_log_origin_records_the_options_of_the_pipeline(project, pipeline):
    connect(project, "nothing")
    with open_run(project, "one") as run:
        log_origin(pipeline)
    tags = ended(run).data.tags
    names = ("precision", "strategy", "jit", "deterministic")
    assert [tags[name] for name in names] == ["float32", "none", "auto", "False"]
    pipeline.precision, pipeline.strategy, pipeline.jit, pipeline.deterministic = (
        "mixed_float16",
        "mirrored",
        "on",
        True,
    )
    with open_run(project, "two") as run:
        log_origin(pipeline)
    tags = ended(run).data.tags
    assert [tags[name] for name in names] == ["mixed_float16", "mirrored", "on", "True"]


def test_the_command_line_is_quoted_for_a_shell(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/keras-dl", "train", "my file.py", "cell=lstm"])
    assert command_line() == "keras-dl train 'my file.py' cell=lstm"


def test_log_origin_without_a_git_tree_and_data(project, pipeline, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.root.parent))
    pipeline.source = None
    connect(project, "nothing")
    with open_run(project, "one") as run:
        log_origin(pipeline)
    tags = ended(run).data.tags
    assert (tags["git_commit"], tags["git_dirty"], tags["data"]) == ("none", "False", "default")
    monkeypatch.setenv("PATH", "")
    assert environment(project.root)["git_commit"] == "none"


def test_uncommitted_changes_make_a_tree_dirty(tmp_path):
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").touch()
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    assert environment(tmp_path)["git_dirty"] is False
    (tmp_path / "file").write_text("changed")
    assert environment(tmp_path)["git_dirty"] is True


def test_git_diff_lists_uncommitted_changes(tmp_path, monkeypatch):
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("one\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    assert git_diff(tmp_path) == ""
    (tmp_path / "below").mkdir()
    (tmp_path / "new").touch()
    (tmp_path / "file").write_text("two\n")
    text = git_diff(tmp_path / "below")
    assert text.startswith("# untracked: new\n") and "\n-one\n+two\n" in text
    (tmp_path / "file").write_bytes(b"\xff\xfe" + b"line\n" * 100_000)
    assert 200_000 < len(git_diff(tmp_path)) < 200_100 and git_diff(tmp_path).endswith("# truncated\n")
    monkeypatch.setenv("PATH", "")
    assert git_diff(tmp_path) == ""


def test_is_gone_recognizes_processes_that_have_ended():
    host = socket.gethostname()
    assert not is_gone(owner())
    assert is_gone(f"{host}:{os.getpid()}:1000000000")  # same id, different start time
    code = "from keras_dl.tracking.environment import owner; print(owner(), flush=True); input()"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    name = process.stdout.readline().strip()
    assert name.startswith(f"{host}:{process.pid}:") and not is_gone(name)
    process.kill()
    while not is_gone(name):  # also before the parent has waited for it
        time.sleep(0.01)
    process.communicate()
    assert is_gone(name)
    for unknown in ("", "x", f"{host}:1", f"elsewhere:{process.pid}:1", f"{host}:a:b", "::"):
        assert not is_gone(unknown)
