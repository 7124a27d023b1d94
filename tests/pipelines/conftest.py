"""Runs a pipeline end to end: from its file to a tracked model and the answers of a server."""

import shutil
from functools import partial

import keras
import mlflow
import numpy as np
import pytest

from keras_dl.cli import main
from keras_dl.pipeline import load_pipeline, splits_of
from keras_dl.release.evaluate import example_of
from keras_dl.serving import Client
from keras_dl.serving.export.clean import clean_process
from keras_dl.serving.predict import show_prediction

from ..conftest import enter, start_project
from ..served import serving


@pytest.fixture(scope="session")
def shared_project(tmp_path_factory, empty_store):
    """The settings of one project for all pipelines."""
    settings = start_project(tmp_path_factory.mktemp("project"), empty_store)
    (settings.root / "pipelines").mkdir()
    return settings


@pytest.fixture
def run_end_to_end(shared_project, monkeypatch, capsys):
    """run_end_to_end(file, *arguments): tunes a pipeline with one trial of one epoch, and checks every step after it.

    Returns the names of the run's artifacts and what the search printed.
    """

    def run(file, *arguments, **values):
        enter(shared_project, monkeypatch)
        path = shared_project.root / "pipelines" / file.name
        shutil.copy(file, path)
        given = [f"{key}={value}" for key, value in values.items()]
        assert main(["tune", str(path), "--trials", "1", "--epochs", "1", *given, *arguments]) == 0
        printed = capsys.readouterr().out
        pipeline = load_pipeline(path)
        pipeline.source = arguments[arguments.index("--data") + 1] if "--data" in arguments else None
        artifacts = check_tracked(shared_project, pipeline)
        check_served(shared_project, pipeline, values, capsys)
        return artifacts, printed

    return run


def check_tracked(settings, pipeline):
    """A parent run with the test metric and the artifacts, a trial with the objective, and a champion."""
    tracker = mlflow.MlflowClient(settings.tracking_uri)
    experiment = tracker.get_experiment_by_name(pipeline.name).experiment_id
    trial, parent = sorted(tracker.search_runs([experiment]), key=lambda run: run.data.tags["kind"], reverse=True)
    assert (trial.info.status, parent.info.status) == ("FINISHED", "FINISHED")
    assert pipeline.objective in trial.data.metrics
    assert np.isfinite(parent.data.metrics[f"test_{pipeline.goal.test_metric[0]}"])
    artifacts = {artifact.path for artifact in tracker.list_artifacts(parent.info.run_id)}
    assert {"search.png", "learning_curves.png", "pipeline", "environment.json", "values.json"} < artifacts
    champion = tracker.get_model_version_by_alias(pipeline.name, settings.registry.champion)
    assert int(champion.version) == 1
    return artifacts


def check_served(settings, pipeline, values, capsys):
    """A process without this package and a server give the same answers; `keras-dl predict` prints them."""
    name, folder = pipeline.name, settings.saved_models / pipeline.name
    assert [version.name for version in folder.iterdir()] == ["1"]
    example = next(iter(splits_of(pipeline, values).test.unbatch()))
    example = keras.tree.map_structure(keras.ops.convert_to_numpy, example)
    request = pipeline.request(example)
    assert all(len(array) == 1 for array in request.values())
    with serving(name, folder) as url:
        with Client(url) as client:
            inputs = client.metadata(name)["serving_default"]["inputs"]
        arrays = {key or next(iter(inputs)): np.asarray(array) for key, array in request.items()}
        dtypes = {key: object if spec["dtype"] == "string" else spec["dtype"] for key, spec in inputs.items()}
        with clean_process() as process:
            process.load(folder / "1")
            arrays = {key: array.astype(dtypes[key]) for key, array in arrays.items()}
            expected = process.answer("serving_default", arrays)
        assert expected and all(len(rows) == 1 for rows in expected.values())
        served = show_prediction(name, settings, example=partial(example_of, name, settings, 0), url=url)
    assert served.keys() == expected.keys()
    for key, rows in expected.items():
        if rows.dtype == object:
            assert served[key].tolist() == np.vectorize(bytes.decode, otypes=[object])(rows).tolist()
        else:
            np.testing.assert_allclose(served[key], rows, rtol=1e-4, atol=1e-5)
    shown = capsys.readouterr().out
    assert f"{name}, the server at {url}:\n" in shown
    assert all(f"\n  {key}: " in shown for key in expected)
    answer = pipeline.answer(example)
    assert answer is None or shown.endswith(f"\n  expected: {answer}\n")
