"""Searches that were stopped or killed, and resumed with the same or with different arguments."""

import json
import os
import subprocess
import sys

import mlflow
import pytest

from keras_dl.errors import UserError
from keras_dl.pipeline import load_pipeline
from keras_dl.release import registry
from keras_dl.training import job
from keras_dl.tuning import search as searches
from keras_dl.tuning.plan import Plan
from keras_dl.tuning.search import search

from .halves import GRID, KILL, artifacts, client_of, curve, curves, fits, runs, stop, text_of, write_pipeline

pytestmark = pytest.mark.usefixtures("without_drawing")


def interrupted(settings, pipeline, plan=None, fit=2, epoch=1):
    """Runs a search that is stopped in a fit, before an epoch; returns its run."""
    stop(settings.root, fit, epoch)
    with pytest.raises(KeyboardInterrupt):
        search(pipeline, settings, plan)
    return runs(settings)[-1]


@pytest.mark.slow
def test_a_stopped_search_is_resumed_in_its_runs(project):
    pipeline = write_pipeline(project.root)
    parent = interrupted(project, pipeline)
    before = runs(project, parent)
    assert [run.info.status for run in (parent, *before)] == ["KILLED", "FINISHED", "KILLED"]
    assert mlflow.active_run() is None and registry.list_models() == []

    assert search(pipeline, project).version == 1
    (again,) = runs(project)
    children = runs(project, again)
    assert again.info.run_id == parent.info.run_id
    assert [run.info.status for run in (again, *children)] == ["FINISHED"] * 4
    assert [child.info.run_id for child in children[:2]] == [child.info.run_id for child in before]
    assert [child.data.tags["trial"] for child in children] == ["0", "1", "2"]
    assert all(list(curve(project, child)) == [0, 1] for child in children)
    assert len(fits(project)) == 4
    assert not (project.root / "searches" / "halves").exists()


SEARCH = """
from keras_dl.pipeline import load_pipeline
from keras_dl.tracking.settings import read_settings
from keras_dl.tuning.search import search
search(load_pipeline("pipelines/halves.py"), read_settings())
"""


def test_a_killed_search_gives_the_same_results_when_resumed(project, searched):
    """A process is killed with kill -9; the reference is the search of `searched`."""
    undisturbed, _ = searched
    pipeline = write_pipeline(project.root)
    stop(project.root, 2, 1, KILL)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SEARCH]
    process = subprocess.run(command, cwd=project.root, env=environment, capture_output=True, text=True, timeout=240)
    assert process.returncode == -KILL, process.stderr
    (parent,) = runs(project)
    statuses = {run.info.status for run in (parent, *runs(project, parent))}
    assert "RUNNING" in statuses and statuses <= {"RUNNING", "FINISHED"}

    search(pipeline, project)
    (again,) = runs(project)
    (whole,) = runs(undisturbed)
    assert again.info.run_id == parent.info.run_id
    assert curves(project, again) == curves(undisturbed, whole)
    assert {run.info.status for run in (again, *runs(project, again))} == {"FINISHED"}
    for name in ("best_val_loss", "test_loss", "trials_completed"):
        assert again.data.metrics[name] == whole.data.metrics[name]
    assert again.data.tags["best_trial"] == whole.data.tags["best_trial"]


@pytest.mark.slow
def test_a_search_whose_run_was_deleted_is_resumed_in_a_new_run(project):
    pipeline = write_pipeline(project.root)
    plan = Plan(trials=2)
    parent = interrupted(project, pipeline, plan)
    mlflow.delete_run(parent.info.run_id)
    assert search(pipeline, project, plan).version == 1
    (new,) = runs(project)
    assert new.info.run_id != parent.info.run_id and new.info.status == "FINISHED"
    assert new.data.params["trials"] == "2" and new.data.metrics["trials_completed"] == 2
    assert {"environment.json", "space.txt"} < artifacts(project, new)
    assert len(fits(project)) == 3


def test_a_search_stopped_after_registration_does_not_register_again(project, monkeypatch):
    """It is stopped before each of the later steps."""
    pipeline = write_pipeline(project.root)

    def stopped(*arguments):
        raise KeyboardInterrupt

    for module, step in ((searches, "write_report"), (job, "export_champion"), (job, "remove_folder")):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(module, step, stopped)
            search(pipeline, project, Plan(trials=1))
        assert int(registry.get_version("halves", "champion").version) == 1
        assert (project.saved_models / "halves").exists() == (step == "remove_folder")
    version = search(pipeline, project, Plan(trials=1))
    assert (version.version, version.alias) == (1, "champion")
    assert len(registry.list_models()) == 1 and len(fits(project)) == 1
    assert (project.saved_models / "halves" / "1").is_dir()
    (parent,) = runs(project)
    assert parent.info.status == "FINISHED" and "halves.html" in artifacts(project, parent)
    assert len(json.loads(text_of(parent, "trials.json"))["data"]) == 1  # although logged several times


# ---------------------------------------------------------------------------- with different arguments


def refusal(settings, plan=None, **changes):
    """Returns the error message of a search with different arguments."""
    changed = load_pipeline(settings.root / "pipelines" / "halves.py")
    for name, value in changes.items():
        setattr(changed, name, value)
    with pytest.raises(UserError, match="contains an unfinished search with different arguments: .*--fresh") as caught:
        search(changed, settings, plan)
    return str(caught.value)


def test_other_arguments_raise_an_error_that_names_them(project):
    interrupted(project, write_pipeline(project.root), fit=1)
    plan = Plan(tuner="bayesian", pins={"units": 2}, executions=2)
    changes = {"epochs": 1, "seed": 4, "trials": 5, "objective": "val_accuracy", "deterministic": True}
    message = refusal(project, plan, **changes)
    assert "tuner was 'random' and is 'bayesian'" in message and "executions was 1 and is 2" in message
    assert "pins was {} and is {'units': 2}" in message and "trials was 3 and is 5" in message
    assert "epochs was 2 and is 1" in message and "seed was 0 and is 4" in message
    assert "objective was 'val_loss' and is 'val_accuracy'" in message
    assert "deterministic was False and is True" in message
    assert "Repeat the earlier arguments to resume it" in message
    # --resume allows changes under which the finished trials stay comparable, and no others.
    assert "Use --resume to resume with the new ones" in refusal(project, Plan(trials=5, early_stop="median"))
    assert "seed was 0 and is 4" in refusal(project, Plan(resume=True), seed=4)
    assert len(fits(project)) == 1 and len(runs(project)) == 1


def test_a_search_is_resumed_with_more_trials_and_a_changed_range(project):
    pins = {name: value for name, value in GRID.items() if name != "rate"} | {"units": 3}
    parent = interrupted(project, write_pipeline(project.root), Plan(trials=3, pins=pins))
    file = project.root / "pipelines" / "halves.py"
    file.write_text(file.read_text().replace('"rate", 1e-3, 1e-1', '"rate", 5e-3, 2e-2'))
    message = refusal(project, Plan(trials=6, pins=pins))
    assert "space had rate from 0.001 to 0.1 (default 0.01) and has rate from 0.005 to 0.02 (default 0.01)" in message
    assert "the pipeline's file has changed" in message and "trials was 3 and is 6" in message
    assert "--resume" in message
    search(load_pipeline(file), project, Plan(trials=6, pins=pins, resume=True))
    (again,) = runs(project)
    assert again.info.run_id == parent.info.run_id
    assert len(runs(project, again)) == 6 and again.data.metrics["trials_completed"] == 6
    rates = [fit["rate"] for fit in fits(project)]
    assert len(rates) == 7 and all(0.005 <= rate <= 0.02 for rate in rates[3:])


def test_the_runs_of_a_discarded_search_are_closed(project):
    pipeline = write_pipeline(project.root)
    parent = interrupted(project, pipeline)
    client = client_of(project)
    old = [parent, *runs(project, parent)]
    for run in old:  # as after a kill
        client.update_run(run.info.run_id, status="RUNNING")
    assert search(pipeline, project, Plan(trials=1, fresh=True)).version == 1
    assert {client.get_run(run.info.run_id).info.status for run in old} == {"KILLED"}
    _, new = runs(project)
    assert len(runs(project, new)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("tuner", ["bayesian", "hyperband", "grid"])
def test_each_tuner_gives_the_same_results_when_resumed(project, tmp_path, empty_store, monkeypatch, tuner):
    plan = Plan(tuner=tuner, trials=5 if tuner == "hyperband" else 3, pins=GRID if tuner == "grid" else {})
    pipeline = write_pipeline(project.root)
    search(pipeline, project, plan)
    (project.root / "pipelines" / "fits.jsonl").unlink()
    interrupted(project, pipeline, plan)
    search(pipeline, project, plan)
    whole, again = runs(project)
    assert curves(project, again) == curves(project, whole)
    assert again.data.metrics["best_val_loss"] == whole.data.metrics["best_val_loss"]
