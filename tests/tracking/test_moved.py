"""Stores of projects whose folders were moved or copied."""

import os
import shutil
import sqlite3
from pathlib import Path

import mlflow
import pytest

from keras_dl.errors import UserError
from keras_dl.tracking.moved import update_paths
from keras_dl.tracking.runs import connect, open_run
from keras_dl.tracking.settings import read_settings


@pytest.fixture
def old(project, tmp_path_factory, empty_store):
    """The settings of a project in a folder whose name needs quoting, and its run with a file and a version."""
    folder = tmp_path_factory.mktemp("projects") / "an old, 100% project"
    folder.mkdir()
    for name in ("mlflow.yaml", "mlflow.db"):
        shutil.copy(project.root / name, folder)
    settings = read_settings(folder)
    connect(settings, "line")
    with open_run(settings, "train", {"data": str(folder / "rows.csv")}) as run:
        mlflow.log_text("kept", "note.txt")
        client = mlflow.MlflowClient()
        client.create_registered_model("line")
        client.create_model_version("line", run.info.artifact_uri, run.info.run_id)
    return settings, run.info.run_id


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def check(settings, run_id):
    """Checks that everything of the run is read from the project, and that a new run is written there."""
    connect(settings, "line")
    run = mlflow.get_run(run_id)
    assert run.info.artifact_uri.startswith(settings.root.as_uri() + "/mlartifacts/")
    assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/note.txt") == "kept"
    assert run.data.tags["data"] == str(settings.root / "rows.csv")
    assert mlflow.MlflowClient().get_model_version("line", "1").source == run.info.artifact_uri
    with open_run(settings, "again"):
        mlflow.log_text("new", "note.txt")
    assert len(list((settings.root / "mlartifacts").rglob("note.txt"))) == 2


def test_a_moved_project_is_read_and_written_in_its_new_folder(old, capsys):
    settings, run_id = old
    moved = settings.root.rename(settings.root.parent / "new")
    check(read_settings(moved), run_id)
    assert not settings.root.exists()
    assert capsys.readouterr().err.count(f"the project was in {settings.root}: runs and models are now read") == 1


def test_a_copy_never_writes_into_the_original(old):
    settings, run_id = old
    copied = settings.root / "copies" / "an old, 100% project"  # a copy inside of the original
    shutil.copytree(settings.root, copied, ignore=shutil.ignore_patterns("copies"))
    before = {path: time for path, time in files(settings.root).items() if copied not in path.parents}
    check(read_settings(copied), run_id)
    assert {path: time for path, time in files(settings.root).items() if copied not in path.parents} == before


def test_a_project_without_its_artifacts_writes_new_ones_in_its_folder(old):
    settings, run_id = old
    moved = settings.root.parent / "without"
    moved.mkdir()
    for name in ("mlflow.yaml", "mlflow.db"):
        shutil.copy(settings.root / name, moved)
    settings = read_settings(moved)
    connect(settings, "line")
    with open_run(settings, "again"):
        mlflow.log_text("new", "note.txt")
    assert len(list((moved / "mlartifacts").rglob("note.txt"))) == 1


def test_a_project_that_was_not_moved_is_unchanged(old):
    settings, _ = old
    linked = settings.root.parent / "link"
    os.symlink(settings.root, linked)
    for each in (settings, settings.model_copy(update={"root": linked})):
        before = sqlite3.connect(settings.root / "mlflow.db").iterdump()
        update_paths(each)
        assert list(sqlite3.connect(settings.root / "mlflow.db").iterdump()) == list(before)


def test_an_experiment_whose_files_are_elsewhere_is_refused(old, tmp_path):
    settings, _ = old
    with sqlite3.connect(settings.root / "mlflow.db") as store:
        store.execute("UPDATE experiments SET artifact_location = ?", (str(tmp_path / "elsewhere"),))
    with pytest.raises(UserError, match="the experiment line stores its files in .*elsewhere, outside of this project"):
        connect(settings, "line")
    assert not Path(tmp_path / "elsewhere").exists()
    elsewhere = settings.tracking.model_copy(update={"artifacts": str(tmp_path / "elsewhere")})
    connect(settings.model_copy(update={"tracking": elsewhere}), "line")


def test_a_store_outside_of_the_project_is_unchanged(old, tmp_path):
    settings, _ = old
    shared = settings.tracking.model_copy(update={"uri": f"sqlite:///{settings.root}/mlflow.db"})
    other = settings.model_copy(update={"root": tmp_path, "tracking": shared})
    before = list(sqlite3.connect(settings.root / "mlflow.db").iterdump())
    update_paths(other)
    assert list(sqlite3.connect(settings.root / "mlflow.db").iterdump()) == before
