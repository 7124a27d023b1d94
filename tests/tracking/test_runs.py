"""Runs in a real store: how they end, where they go, what they hold."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time

import mlflow
import pytest

from keras_dl.errors import UserError
from keras_dl.pipeline import load_pipeline
from keras_dl.tracking.runs import connect, environment, log_origin, mark_error, open_run
from keras_dl.tracking.settings import Settings

PIPELINE = '''
"""Nothing to learn."""
def data(hp): ...
def build(hp): ...
'''


def ended(run):
    """The run as the store has it now."""
    return mlflow.MlflowClient().get_run(run.info.run_id)


def artifacts(run):
    return {file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)}


def test_a_run_that_ends_well_is_finished(project):
    connect(project, "digits")
    with open_run(project, "one", {"kind": "train"}) as run:
        assert mlflow.active_run().info.run_id == run.info.run_id
    assert mlflow.active_run() is None
    run = ended(run)
    assert run.info.status == "FINISHED" and run.info.run_name == "one"
    assert run.data.tags["kind"] == "train"
    assert mlflow.get_experiment(run.info.experiment_id).name == "digits"
    assert run.info.artifact_uri.startswith((project.root / "mlartifacts").as_uri())


def test_a_run_with_an_error_is_failed_and_shows_it(project):
    connect(project, "digits")
    with pytest.raises(ZeroDivisionError), open_run(project, "one") as run:
        1 / 0  # noqa: B018
    assert mlflow.active_run() is None
    assert ended(run).info.status == "FAILED"
    assert ended(run).data.tags["error"] == "ZeroDivisionError: division by zero"
    text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/error.txt")
    assert text.startswith("Traceback") and "1 / 0" in text


def test_a_run_that_is_stopped_is_killed(project):
    connect(project, "digits")
    with pytest.raises(KeyboardInterrupt), open_run(project, "one") as run:
        raise KeyboardInterrupt
    assert mlflow.active_run() is None
    assert ended(run).info.status == "KILLED"
    assert "error" not in ended(run).data.tags


def test_exit_is_no_finish(project):
    connect(project, "digits")
    with pytest.raises(SystemExit), open_run(project, "one") as run:
        sys.exit(3)
    assert ended(run).info.status == "FAILED"


def test_inner_and_outer_run_end_each_in_its_own_way(project):
    connect(project, "digits")
    with open_run(project, "outer") as outer:
        with pytest.raises(ValueError), open_run(project, "inner") as inner:
            raise ValueError("no")
        assert mlflow.active_run().info.run_id == outer.info.run_id
    assert (ended(outer).info.status, ended(inner).info.status) == ("FINISHED", "FAILED")
    assert ended(inner).data.tags["mlflow.parentRunId"] == outer.info.run_id


def test_a_run_goes_on_and_a_deleted_one_is_replaced(project):
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


def test_the_tags_of_the_settings_are_on_every_run(project):
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
        deadline = time.monotonic() + 20
        while "system/cpu_utilization_percentage" not in ended(run).data.metrics and time.monotonic() < deadline:
            time.sleep(0.1)
    assert "system/cpu_utilization_percentage" in ended(run).data.metrics
    with open_run(project, "not measured") as run:
        time.sleep(0.5)
    assert not any(name.startswith("system/") for name in ended(run).data.metrics)


def test_an_outer_run_wins(project, empty_store):
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


def test_first_use_of_a_new_store_by_three_processes_at_once(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING")}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CONNECT, str(tmp_path), str(number)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for number in range(3)
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
    assert sorted(run.data.params["process"] for run in runs) == ["0", "1", "2"]
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
    assert ended(run).info.experiment_id == old.experiment_id


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


def test_mark_error_cuts_what_a_tag_cannot_hold(project):
    connect(project, "digits")
    with open_run(project, "one") as run:
        mark_error(run.info.run_id, "x" * 10_000, "all of it")
    assert set(ended(run).data.tags["error"]) == {"x"} and len(ended(run).data.tags["error"]) >= 1000
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/error.txt") == "all of it"


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


def test_the_origin_of_a_run(project, pipeline):
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
    assert tags["command"] == " ".join(sys.argv)
    assert "CPU:0" in tags["devices"]
    assert artifacts(run) == {"environment.json", "pipeline"}
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/pipeline/nothing.py") == PIPELINE
    described = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/environment.json"))
    assert described["packages"]["tensorflow"] and described["packages"]["mlflow"] == mlflow.__version__
    assert described["backend"] == "tensorflow" and described["cpu_count"] == os.cpu_count()
    assert described["git_commit"] == tags["git_commit"]


def test_without_git_and_without_data(project, pipeline, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.root.parent))
    pipeline.source = None
    connect(project, "nothing")
    with open_run(project, "one") as run:
        log_origin(pipeline)
    tags = ended(run).data.tags
    assert (tags["git_commit"], tags["git_dirty"], tags["data"]) == ("none", "False", "default")
    monkeypatch.setenv("PATH", "")
    assert environment(project.root)["git_commit"] == "none"


def test_a_clean_tree_is_not_dirty(tmp_path):
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").touch()
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    assert environment(tmp_path)["git_dirty"] is False
    (tmp_path / "file").write_text("changed")
    assert environment(tmp_path)["git_dirty"] is True
