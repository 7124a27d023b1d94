"""Searches with invalid arguments, failing trials, a full disk or a failing store."""

import errno
import threading

import filelock
import mlflow
import pytest
from mlflow import MlflowClient, MlflowException

from keras_dl.errors import UserError
from keras_dl.release import registry
from keras_dl.tracking import journal
from keras_dl.tracking.outbox import Outbox
from keras_dl.training import state
from keras_dl.tuning.plan import Plan
from keras_dl.tuning.search import search

from .halves import GRID, client_of, curve, curves, fits, runs, write_pipeline
from .test_tuner import BROKEN

pytestmark = pytest.mark.usefixtures("without_drawing")

# ---------------------------------------------------------------------------- before any trial


def has_not_started(settings):
    return fits(settings) == [] and not [path for path in (settings.root / "searches").glob("*") if path.is_dir()]


def test_an_unwritable_export_folder(project):
    project.saved_models.write_text("a file in its place")
    with pytest.raises(UserError, match="cannot write to .*saved_models"):
        search(write_pipeline(project.root), project)
    assert has_not_started(project)
    assert client_of(project).get_experiment_by_name("halves") is None


@pytest.mark.parametrize(
    "plan, message",
    [
        (Plan(pins={"unit": 3}), r"unknown hyperparameter: unit\. This pipeline has: batch_size .*; units from 2 to 4"),
        (Plan(pins={"units": 5}), r"units=5 is invalid: expected units from 2 to 4"),
        (Plan(pins={**GRID, "units": 2}), "there is nothing to search: every hyperparameter has a single value"),
        (Plan(tuner="grid", trials=4, pins=GRID), "the grid has 3 combinations; expected --trials of at most that"),
    ],
)
def test_invalid_pins_and_numbers_of_trials(project, plan, message):
    with pytest.raises(UserError, match=message):
        search(write_pipeline(project.root), project, plan)
    assert has_not_started(project) and runs(project) == []


def test_a_disk_with_too_little_space(project, monkeypatch):
    monkeypatch.setattr("keras_dl.tuning.search.FREE_BYTES", 2**62)
    with pytest.raises(UserError, match=r"searches has \d+ MB left; expected at least"):
        search(write_pipeline(project.root), project)
    assert has_not_started(project)


def test_a_second_search_at_the_same_time_raises_an_error(project):
    folder = project.root / "searches"
    folder.mkdir()
    with filelock.FileLock(folder / "halves.lock"):
        with pytest.raises(UserError, match="another search of halves is running"):
            search(write_pipeline(project.root), project)
    assert has_not_started(project)


# ---------------------------------------------------------------------------- trials that fail


def test_failed_trials_are_reported_and_the_search_continues(project, capfd):
    version = search(write_pipeline(project.root, BROKEN), project, Plan(tuner="grid", pins=GRID))
    (parent,) = runs(project)
    children = {child.data.params["units"]: child for child in runs(project, parent)}
    statuses = {units: child.info.status for units, child in children.items()}
    assert statuses == {"2": "FAILED", "3": "FINISHED", "4": "FAILED"}
    assert (parent.info.status, parent.data.params["best_units"]) == ("FINISHED", "3")
    assert (parent.data.metrics["trials_completed"], parent.data.metrics["trials_failed"]) == (1, 2)
    assert version.alias == "champion"
    output = capfd.readouterr()
    table = [line.split()[0] for line in output.out.partition("rank")[0].splitlines()]
    assert sorted(table) == ["1/3", "2/3", "3/3", "trial", "trial", "trial"]  # header, two reasons, no other prints
    assert "2 units are too few" in output.out and "loss is nan in epoch 1" in output.out
    assert "Traceback" not in output.out + output.err
    page = (project.root / "searches" / "halves.html").read_text()
    assert "2 units are too few" in page


def test_if_every_trial_fails_the_search_fails_and_the_next_one_starts_over(project):
    pipeline = write_pipeline(project.root, 'loss = lambda target, output: keras.ops.mean(output) * float("nan")')
    with pytest.raises(UserError, match="all 2 trials failed; the last one: .*loss is nan in epoch 1"):
        search(pipeline, project, Plan(trials=2))
    (parent,) = runs(project)
    assert parent.info.status == "FAILED" and "all 2 trials failed" in parent.data.tags["error"]
    assert [child.info.status for child in runs(project, parent)] == ["FAILED", "FAILED"]
    assert registry.list_models() == [] and not (project.saved_models / "halves").exists()

    # Other arguments are accepted: there is nothing to resume.
    assert search(write_pipeline(project.root), project, Plan(trials=1)).version == 1
    _, second = runs(project)
    assert second.info.status == "FINISHED" and len(runs(project, second)) == 1


def test_a_missing_objective_is_reported_in_the_first_trial(project):
    pipeline = write_pipeline(project.root)
    pipeline.objective, pipeline.direction = "val_error_rate", "min"
    with pytest.raises(UserError, match="'val_error_rate' is not among the metrics: accuracy, loss, val_accuracy"):
        search(pipeline, project)
    assert len(fits(project)) == 1
    (parent,) = runs(project)
    assert [run.info.status for run in (parent, *runs(project, parent))] == ["FAILED", "FAILED"]
    assert not (project.root / "searches" / "halves").exists()  # nothing to resume


def test_a_failed_export_keeps_the_version_and_reports_the_command(project):
    pipeline = write_pipeline(project.root)
    project.saved_models.mkdir()
    (project.saved_models / "halves").write_text("a file in its place")
    with pytest.raises(UserError) as caught:
        search(pipeline, project, Plan(trials=1))
    message = str(caught.value)
    assert "cannot write to" in message and "The model is safe in the registry" in message
    assert message.endswith("keras-dl export pipelines/halves.py --model 1")
    assert int(registry.get_version("halves", "champion").version) == 1
    assert not (project.root / "searches" / "halves").exists()


# ---------------------------------------------------------------------------- a full disk


def full_after(writes):
    """Returns a `write_bytes` that fails with a full disk after this number of calls."""
    write = state.write_bytes
    left = [writes]

    def full(path, content):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, content)

    return full


def test_a_full_disk_stops_the_search_and_the_same_call_resumes_it(project, searched):
    """The disk is full in the second trial."""
    undisturbed, _ = searched
    pipeline = write_pipeline(project.root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "write_bytes", full_after(4))
        with pytest.raises(UserError, match="the disk is full: .*Every finished trial is kept"):
            search(pipeline, project)
    (parent,) = runs(project)
    assert parent.info.status == "FAILED"
    assert [run.info.status for run in runs(project, parent)] == ["FINISHED", "KILLED"]

    search(pipeline, project)
    (again,) = runs(project)
    (whole,) = runs(undisturbed)
    assert again.info.run_id == parent.info.run_id and "error" not in again.data.tags
    assert curves(project, again) == curves(undisturbed, whole)
    assert {run.info.status for run in (again, *runs(project, again))} == {"FINISHED"}
    assert again.data.metrics["trials_failed"] == 0


# ---------------------------------------------------------------------------- a store that fails


@pytest.fixture
def quick_retries(monkeypatch):
    monkeypatch.setattr(journal, "RETRY", 0.1)
    monkeypatch.setattr(journal, "GATHER", 0.01)


def test_nothing_is_lost_if_the_store_fails_temporarily(project, searched, quick_retries, monkeypatch, capfd):
    undisturbed, _ = searched
    log, failures = MlflowClient.log_batch, iter(range(8))

    def failing(self, *arguments, **options):
        if threading.current_thread().name == "mlflow-delivery" and next(failures, None) is not None:
            raise MlflowException("the server is away")
        return log(self, *arguments, **options)

    monkeypatch.setattr(MlflowClient, "log_batch", failing)
    search(write_pipeline(project.root), project)
    (parent,), (whole,) = runs(project), runs(undisturbed)
    assert next(failures, None) is None
    assert curves(project, parent) == curves(undisturbed, whole)
    assert {run.info.status for run in runs(project, parent)} == {"FINISHED"}
    output = capfd.readouterr().err
    assert output.count("does not answer") == 1 and output.count("is back") == 1


def test_trials_are_kept_if_the_store_stays_unavailable(project, quick_retries, monkeypatch):
    """When the store is available again, the same call delivers their runs and registers the model."""
    pipeline = write_pipeline(project.root)
    stop = journal.Delivery.stop

    def unavailable(*arguments, **options):
        raise MlflowException("the server is away")

    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "deliver", unavailable)
        patch.setattr(journal.Delivery, "stop", lambda self, timeout: stop(self, 1))
        with pytest.raises(UserError, match="does not answer, so the model cannot be registered yet"):
            search(pipeline, project, Plan(trials=2))
    assert len(fits(project)) == 2 and registry.list_models() == []
    assert search(pipeline, project, Plan(trials=2)).version == 1
    assert len(fits(project)) == 2  # no trial is repeated
    (parent,) = runs(project)
    children = runs(project, parent)
    assert [child.info.run_name for child in children] == ["trial-1", "trial-2"]
    assert {child.info.status for child in children} == {"FINISHED"}
    assert all(list(curve(project, child)) == [0, 1] for child in children)
    assert mlflow.active_run() is None
