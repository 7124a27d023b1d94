"""Searches that were stopped or killed: the same call goes on, and what changed is asked for."""

import json
import os
import subprocess
import sys

import mlflow
import pytest

from keras_dl.errors import UserError
from keras_dl.pipeline import load_pipeline
from keras_dl.release import registry
from keras_dl.tuning import search as searches
from keras_dl.tuning.plan import Plan
from keras_dl.tuning.search import search

from .halves import GRID, KILL, artifacts, client_of, curve, curves, fits, runs, stop, text_of, write_pipeline


def interrupted(settings, pipeline, plan=None, fit=2, epoch=1):
    """A search stopped in a fit, before an epoch."""
    stop(settings.root, fit, epoch)
    with pytest.raises(KeyboardInterrupt):
        search(pipeline, settings, plan)
    return runs(settings)[-1]


def test_a_stopped_search_goes_on_in_its_runs(project):
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


def test_killed_it_gives_what_an_undisturbed_one_gives(project, tmp_path_factory, searched):
    """A real kill -9 of a process; the undisturbed search is that of `searched`."""
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


def test_a_stopped_search_goes_on_without_its_deleted_run(project):
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


@pytest.mark.parametrize("place", ["write_report", "remove_folder", "export_champion"])
def test_stopped_after_its_model_is_registered_it_registers_no_second_one(project, monkeypatch, place):
    pipeline = write_pipeline(project.root)

    proceed = getattr(searches, place)

    def stopped(*arguments):
        if registry.list_models():
            raise KeyboardInterrupt
        proceed(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(searches, place, stopped)
        with pytest.raises(KeyboardInterrupt):
            search(pipeline, project, Plan(trials=1))
    mlflow.set_tracking_uri(project.tracking_uri)
    assert int(registry.get_version("halves", "champion").version) == 1
    version = search(pipeline, project, Plan(trials=1))
    assert (version.version, version.alias) == (1, "champion")
    assert len(registry.list_models()) == 1 and len(fits(project)) == 1
    assert (project.saved_models / "halves" / "1").is_dir()
    (parent,) = runs(project)
    assert parent.info.status == "FINISHED" and "halves.html" in artifacts(project, parent)
    assert len(json.loads(text_of(parent, "trials.json"))["data"]) == 1  # told twice, and there once


# ---------------------------------------------------------------------------- with other arguments


def refusal(settings, plan=None, **changes):
    """What a search with other arguments is told."""
    changed = load_pipeline(settings.root / "pipelines" / "halves.py")
    for name, value in changes.items():
        setattr(changed, name, value)
    with pytest.raises(UserError, match="an unfinished search lies in .*--fresh") as caught:
        search(changed, settings, plan)
    return str(caught.value)


def test_other_arguments_are_named_and_begin_nothing(project):
    interrupted(project, write_pipeline(project.root), fit=1)
    assert "tuner was 'random' and is 'bayesian'" in refusal(project, Plan(tuner="bayesian"))
    assert "trials was 3 and is 5" in refusal(project, trials=5)
    message = refusal(project, epochs=1, seed=4)
    assert "epochs was 2 and is 1" in message and "seed was 0 and is 4" in message
    assert "Repeat it with the same ones" in message
    assert "objective was 'val_loss' and is 'val_accuracy'" in refusal(project, objective="val_accuracy")
    assert "pins was {} and is {'units': 2}" in refusal(project, Plan(pins={"units": 2}))
    assert "executions was 1 and is 2" in refusal(project, Plan(executions=2))
    assert "deterministic was False and is True" in refusal(project, deterministic=True)
    # What changes nothing of the finished trials may be asked for.
    assert "Give --resume to go on" in refusal(project, Plan(trials=5, early_stop="median"))
    assert "seed was 0 and is 4" in refusal(project, Plan(resume=True), seed=4)
    assert len(fits(project)) == 1 and len(runs(project)) == 1


def test_more_trials_may_be_asked_for(project):
    pipeline = write_pipeline(project.root)
    parent = interrupted(project, pipeline)
    search(pipeline, project, Plan(trials=5, resume=True))
    (again,) = runs(project)
    assert again.info.run_id == parent.info.run_id
    assert len(runs(project, again)) == 5 and again.data.metrics["trials_completed"] == 5
    assert len(fits(project)) == 6


def test_a_changed_range_is_said_and_used_from_then_on(project):
    pins = {name: value for name, value in GRID.items() if name != "rate"} | {"units": 3}
    interrupted(project, write_pipeline(project.root), Plan(trials=6, pins=pins))
    file = project.root / "pipelines" / "halves.py"
    file.write_text(file.read_text().replace('"rate", 1e-3, 1e-1', '"rate", 5e-3, 2e-2'))
    message = refusal(project, Plan(trials=6, pins=pins))
    assert "space had rate from 0.001 to 0.1 (default 0.01) and has rate from 0.005 to 0.02 (default 0.01)" in message
    assert "the pipeline's file has changed" in message and "--resume" in message
    search(load_pipeline(file), project, Plan(trials=6, pins=pins, resume=True))
    rates = [fit["rate"] for fit in fits(project)]
    assert len(rates) == 7 and all(0.005 <= rate <= 0.02 for rate in rates[3:])


def test_thrown_away_a_search_leaves_no_run_running(project):
    pipeline = write_pipeline(project.root)
    parent = interrupted(project, pipeline)
    client = client_of(project)
    old = [parent, *runs(project, parent)]
    for run in old:  # as after a kill, which closes nothing
        client.update_run(run.info.run_id, status="RUNNING")
    assert search(pipeline, project, Plan(trials=1, fresh=True)).version == 1
    assert {client.get_run(run.info.run_id).info.status for run in old} == {"KILLED"}
    _, new = runs(project)
    assert len(runs(project, new)) == 1


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_an_unreadable_record_names_the_way_out(project, text):
    state = project.root / "searches" / "halves"
    state.mkdir(parents=True)
    (state / "search.json").write_text(text)
    with pytest.raises(UserError, match="search.json cannot be read .*--fresh"):
        search(write_pipeline(project.root), project)
    assert json.dumps(fits(project)) == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("tuner", ["bayesian", "hyperband", "grid"])
def test_each_tuner_goes_on_with_what_it_would_have_done(project, tmp_path, empty_store, monkeypatch, tuner):
    plan = Plan(tuner=tuner, trials=5 if tuner == "hyperband" else 3, pins=GRID if tuner == "grid" else {})
    pipeline = write_pipeline(project.root)
    search(pipeline, project, plan)
    (project.root / "pipelines" / "fits.jsonl").unlink()
    interrupted(project, pipeline, plan)
    search(pipeline, project, plan)
    whole, again = runs(project)
    assert curves(project, again) == curves(project, whole)
    assert again.data.metrics["best_val_loss"] == whole.data.metrics["best_val_loss"]
