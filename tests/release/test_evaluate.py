"""Evaluation and export of registered versions and model files."""

import shutil

import mlflow
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.errors import UserError
from keras_dl.pipeline import load_pipeline
from keras_dl.release.evaluate import evaluate, export_version
from keras_dl.training.train import train


@pytest.mark.parametrize(
    "which, split, description, loss",
    [
        ("champion", "test", "line version 3", 4 * 0.125**2),
        ("champion", "validation", "line version 3", 0.125**2),
        ("challenger", "train", "line version 2", 1.8**2),
        ("1", "test", "line version 1", 4 * 1.4**2),
    ],
)
def test_evaluate_a_version_on_a_split(trained, capsys, which, split, description, loss):
    settings, pipeline = trained
    results = evaluate(pipeline, which, split, {}, settings)
    assert results["loss"] == pytest.approx(loss, rel=1e-4)
    assert capsys.readouterr().out.strip() == f"{description} on {split}: loss {loss:.4g}"


def test_evaluate_a_file(trained, tmp_path):
    settings, pipeline = trained
    file = tmp_path / "mine.keras"
    mlflow.keras.load_model("models:/line/1").save(file)
    assert evaluate(pipeline, str(file), "validation", {}, settings)["loss"] == pytest.approx(1.4**2)
    # A file does not record its data, so those of the pipeline are used.
    pipeline.source = "3"
    assert evaluate(pipeline, str(file), "test", {"batch_size": 16}, settings)["loss"] == pytest.approx(9 * 1.4**2)
    with pytest.raises(UserError, match="hyperparameter: size"):
        evaluate(pipeline, str(file), "test", {"size": 16}, settings)


@pytest.mark.parametrize(
    "value, message", [({"size": 16}, "hyperparameter: size"), ({"batch_size": 3}, "one of 8, 16")]
)
def test_evaluate_and_export_reject_invalid_values(trained, value, message):
    settings, pipeline = trained
    for act in (
        lambda: evaluate(pipeline, "1", "test", value, settings),
        lambda: export_version(pipeline, "2", value, settings),
    ):
        with pytest.raises(UserError, match=message):
            act()
    assert evaluate(pipeline, "1", "validation", {"batch_size": 16}, settings)["loss"] == pytest.approx(1.4**2)


def test_evaluate_uses_the_data_of_the_training_run_by_default(project, line, empty_exports):
    line.source = "3"
    train(line, {}, project)
    again = load_pipeline(line.file)
    assert evaluate(again, "champion", "test", {}, project)["loss"] == pytest.approx(9 * 1.4**2)
    other = load_pipeline(line.file)
    other.source = "5"
    assert evaluate(other, "champion", "test", {}, project)["loss"] == pytest.approx(25 * 1.4**2)


@pytest.mark.parametrize("folder", ["*/artifacts", "models"])
def test_missing_files_of_a_version_are_reported(project, line, empty_exports, folder):
    train(line, {}, project)
    for path in (project.root / "mlartifacts").glob(folder):
        shutil.rmtree(path)
    with pytest.raises(UserError, match=r"the files of line version 1 cannot be read from .* \(.*\): restore them"):
        evaluate(line, "champion", "test", {}, project)


@pytest.mark.parametrize(
    "which, message",
    [
        ("7", r"line has no version '7' in the registry\. Available: 3 champion, 2 challenger, 1"),
        ("winner", r"line has no version 'winner' in the registry"),
        ("nowhere.keras", r"model file nowhere\.keras does not exist"),
    ],
)
def test_a_missing_model_is_rejected(trained, which, message):
    settings, pipeline = trained
    with pytest.raises(UserError, match=message):
        evaluate(pipeline, which, "test", {}, settings)


def test_a_file_that_is_not_a_model_is_rejected(trained, tmp_path):
    settings, pipeline = trained
    file = tmp_path / "text.keras"
    file.write_text("not an archive")
    with pytest.raises(UserError, match=r"text\.keras cannot be loaded as a \.keras model: "):
        evaluate(pipeline, str(file), "test", {}, settings)


def test_a_model_that_was_never_trained_is_rejected(project, line):
    for act in (
        lambda: evaluate(line, "champion", "test", {}, project),
        lambda: export_version(line, "1", {}, project),
    ):
        with pytest.raises(UserError, match="no model .line. in the registry"):
            act()


def test_export_of_a_challenger_never_overwrites_a_version(trained, capsys):
    settings, pipeline = trained
    target = settings.saved_models / "line" / "2"
    try:
        assert export_version(pipeline, "challenger", {}, settings) == target
        assert capsys.readouterr().out.strip() == f"exported line version 2 to {target}"
        served = tf.saved_model.load(str(target)).signatures["serving_default"]
        np.testing.assert_allclose(served(x=tf.constant([[1.0]]))["y"], [[2.8]], rtol=1e-6)
        before = sorted(path.stat().st_mtime_ns for path in target.rglob("*"))
        with pytest.raises(UserError, match="line/2 already exists"):
            export_version(pipeline, "2", {}, settings)
        assert sorted(path.stat().st_mtime_ns for path in target.rglob("*")) == before
    finally:
        shutil.rmtree(target, ignore_errors=True)


def test_a_deleted_export_can_be_exported_again(trained):
    settings, pipeline = trained
    target = settings.saved_models / "line" / "3"
    shutil.rmtree(target)
    assert export_version(pipeline, "champion", {}, settings) == target and (target / "saved_model.pb").is_file()
