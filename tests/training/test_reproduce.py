"""Reproducing a run: identical to the last bit, or with a report of the differences."""

import math

import keras
import mlflow
import pytest

from keras_dl.errors import UserError
from keras_dl.pipeline import load_pipeline
from keras_dl.tracking.runs import connect
from keras_dl.training.reproduce import _difference, pipeline_file, reproduce
from keras_dl.training.train import train
from keras_dl.tuning.plan import Plan
from keras_dl.tuning.search import search

from ..conftest import inside_project
from ..line import PIPELINE

# The first weight is random, so that other seeds and executions give other results.
DRAWN = PIPELINE.replace('kernel_initializer="zeros"', 'kernel_initializer="glorot_uniform"')


def write(root, text=DRAWN, name="line"):
    file = root / "pipelines" / f"{name}.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return load_pipeline(file)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, empty_store):
    """A project with a training run that overrides options, and a search of two trials with two executions."""
    with inside_project(tmp_path_factory.mktemp("recorded"), empty_store) as settings:
        root = settings.root
        pipeline = write(root)
        pipeline.seed, pipeline.epochs, pipeline.source, pipeline.deterministic = 4, 2, "3", True
        train(pipeline, {"rate": 0.3}, settings)
        search(write(root), settings, Plan(trials=2, executions=2))
    return settings


@pytest.fixture
def project(recorded, monkeypatch):
    """That project as the current one, with its original pipeline."""
    monkeypatch.chdir(recorded.root)
    write(recorded.root)
    connect(recorded, "line")
    return recorded


def runs(kind):
    return mlflow.search_runs(
        experiment_names=["line"],
        filter_string=f"tags.kind = '{kind}'",
        order_by=["attributes.start_time"],
        output_format="list",
    )


def again(project, run):
    return reproduce(load_pipeline(project.root / "pipelines" / "line.py"), run.info.run_id, project)


@pytest.mark.parametrize(
    "kind, number", [("train", 0), ("search", 0), ("trial", 1), ("execution", 1), ("execution", 2)]
)
def test_every_kind_of_run_is_reproduced_exactly(kind, number, project, capsys):
    run = runs(kind)[number]
    assert again(project, run)
    output = capsys.readouterr().out
    assert "identical" in output and "not identical" not in output and "differs" not in output
    assert "compared" not in output
    done = runs("reproduction")[-1]
    expected = run
    if kind == "search":
        expected = next(one for one in runs("trial") if one.info.run_name == run.data.tags["best_trial"])
    if kind in ("search", "trial"):  # the first of several executions
        ours = [one for one in runs("execution") if one.data.tags["mlflow.parentRunId"] == expected.info.run_id]
        expected = next(one for one in ours if one.data.tags["execution"] == "0")
    assert done.data.tags["reproduces"] == expected.info.run_id
    assert done.data.metrics["largest_difference"] == 0 and done.info.status == "FINISHED"
    for name in ("loss", "val_loss"):
        points = [
            [(point.step, point.value) for point in mlflow.MlflowClient().get_metric_history(one.info.run_id, name)]
            for one in (expected, done)
        ]
        assert points[0] == points[1] and len(points[0]) == (2 if kind == "train" else 3)


def test_recorded_executions_and_trials_differ(project):
    losses = [run.data.metrics["loss"] for run in (*runs("execution"), *runs("train"))]
    assert len(losses) == 5 and len(set(losses)) == 5


def test_options_of_the_run_override_those_of_the_file(project):
    pipeline = load_pipeline(project.root / "pipelines" / "line.py")
    pipeline.seed, pipeline.epochs, pipeline.source = 9, 7, "5"
    assert reproduce(pipeline, runs("train")[0].info.run_id, project)
    assert (pipeline.seed, pipeline.epochs, pipeline.source, pipeline.deterministic) == (4, 2, "3", True)


def test_a_changed_file_and_other_data_are_reported_with_the_difference(project, capsys):
    write(project.root, DRAWN.replace("line(1.0), line(1.0), line(test)", "line(0.9), line(1.0), line(test + 1)"))
    run = runs("train")[0]
    assert not again(project, run)
    output = capsys.readouterr().out
    assert "differs: line.py has changed; the artifacts of the run contain the earlier file" in output
    assert "differs: the test data are " in output and run.data.tags["test_fingerprint"] in output
    assert "not identical: the largest difference is " in output
    assert runs("reproduction")[-1].data.metrics["largest_difference"] > 0


def test_a_run_of_another_pipeline_raises_an_error_before_any_training(project):
    before = len(runs("reproduction"))
    other = write(project.root, name="other")
    run_id = runs("train")[0].info.run_id
    with pytest.raises(UserError, match=f"run {run_id} trained the pipeline 'line'. Received: 'other'"):
        reproduce(other, run_id, project)
    connect(project, "line")
    assert len(runs("reproduction")) == before


def test_the_pipeline_of_a_run_is_found_by_its_name(project):
    run_id = runs("execution")[0].info.run_id
    assert pipeline_file(run_id, project) == project.root / "pipelines" / "line.py"
    (project.root / "pipelines" / "line.py").unlink()
    with pytest.raises(UserError, match=f"run {run_id} trained the pipeline 'line', which is not in .*pipelines"):
        pipeline_file(run_id, project)


@pytest.mark.parametrize("act", [again, lambda project, run: pipeline_file(run.info.run_id, project)])
def test_an_unknown_or_foreign_run_raises_an_error(act, project):
    with mlflow.start_run() as foreign:
        pass
    with pytest.raises(UserError, match="was not created by keras-dl: expected a run of kind train"):
        act(project, foreign)

    class Unknown:
        class info:
            run_id = "0" * 32

    with pytest.raises(UserError, match=f"no run '{'0' * 32}' in sqlite:"):
        act(project, Unknown)


def test_a_run_without_an_epoch_raises_an_error_before_any_training(project):
    recorded = runs("train")[0]
    with mlflow.start_run(tags={**recorded.data.tags, "kind": "train"}) as failed:
        mlflow.log_params({"epochs": "2"})
        mlflow.log_dict({"packages": {}}, "environment.json")
    with pytest.raises(UserError, match=f"run {failed.info.run_id} has no finished epoch to compare with"):
        again(project, failed)
    mlflow.MlflowClient().delete_run(failed.info.run_id)


def test_a_run_without_its_environment_is_compared(project, monkeypatch, capsys):
    def gone(uri):
        raise mlflow.MlflowException(f"no artifact {uri}")

    monkeypatch.setattr(mlflow.artifacts, "load_text", gone)
    assert again(project, runs("train")[0])
    assert "differs: the packages and devices of the run are not known" in capsys.readouterr().out


def test_the_number_of_compared_epochs_of_an_interrupted_run_is_printed(project, capsys):
    pipeline = load_pipeline(project.root / "pipelines" / "line.py")

    def begins(epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt

    pipeline.callbacks = lambda hp: [keras.callbacks.LambdaCallback(on_epoch_begin=begins)]
    with pytest.raises(KeyboardInterrupt):
        train(pipeline, {"rate": 0.4}, project)
    run = runs("train")[-1]
    assert again(project, run)
    assert "compared 2 of 3 epochs: the run ended there\nidentical" in capsys.readouterr().out
    mlflow.MlflowClient().delete_run(run.info.run_id)


@pytest.mark.parametrize(
    "recorded, now, difference",
    [(1.0, 1.5, 0.5), (math.nan, math.nan, 0), (math.nan, 1.0, math.inf), (math.inf, -math.inf, math.inf)],
)
def test_the_difference_of_nan_and_a_number_is_infinite(recorded, now, difference):
    assert _difference(recorded, now) == difference


def test_an_unfinished_search_raises_an_error(project):
    with mlflow.start_run(tags={"kind": "search", "pipeline": "line"}) as unfinished:
        pass
    with pytest.raises(UserError, match="has no best trial: expected a finished search"):
        again(project, unfinished)
