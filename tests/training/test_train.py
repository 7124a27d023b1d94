"""Training with `keras-dl train`: the run in MLflow, and errors before training."""

import json
import math
import shutil

import keras
import mlflow
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.errors import UserError
from keras_dl.pipeline import load_pipeline
from keras_dl.release import registry
from keras_dl.release.evaluate import evaluate, export_version
from keras_dl.training.train import train

from ..line import run_of, weight


def test_the_run_of_a_training_is_complete(trained):
    run = run_of(1)
    assert (run.info.run_name, run.info.status) == ("train", "FINISHED")
    assert run.data.params == {"batch_size": "8", "rate": "1.2", "epochs": "3"}
    assert run.data.metrics["test_loss"] == pytest.approx(4 * 1.4**2)
    assert run.data.metrics["test_weight"] == pytest.approx(2.4)
    tags = run.data.tags
    assert (tags["kind"], tags["pipeline"], tags["model_version"], tags["alias"]) == ("train", "line", "1", "champion")
    names = {file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
    assert names == {"pipeline", "environment.json", "values.json", "learning_curve.png", "words.txt"}
    values = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/values.json"))
    assert values == {"batch_size": 8, "rate": 1.2}


def test_a_nan_loss_stops_the_training(project, line):
    build = line.build

    def build_nan(hp):
        model = build(hp)
        model.compile("sgd", lambda target, output: keras.ops.mean(output) * math.nan, jit_compile=False)
        return model

    line.build = build_nan
    with pytest.raises(UserError, match="loss is nan in epoch 1"):
        train(line, {}, project)
    (run,) = mlflow.search_runs(experiment_names=["line"], output_format="list")
    assert run.info.status == "FAILED" and "loss is nan" in run.data.tags["error"]
    assert registry.list_models() == [] and not list(project.saved_models.iterdir())


def test_a_missing_objective_stops_the_training(project, line):
    line.objective = "val_accuracy"
    with pytest.raises(UserError, match="the objective 'val_accuracy' is not among the metrics: loss, val_loss"):
        train(line, {}, project)


def test_invalid_values_raise_an_error_before_any_run(project, line):
    with pytest.raises(UserError, match="rate=3 is invalid: expected rate from 0.1 to 2.0"):
        train(line, {"rate": 3}, project)
    assert mlflow.search_runs(experiment_names=["line"], output_format="list") == []


def test_an_empty_split_raises_an_error_before_any_run(project, line):
    data = line.data
    line.data = lambda hp: type(data(hp))(data(hp).train, data(hp).validation.take(0), data(hp).test)
    with pytest.raises(UserError, match="the validation split is empty"):
        train(line, {}, project)
    assert mlflow.search_runs(experiment_names=["line"], output_format="list") == []


def test_with_direction_max_the_largest_value_is_best(project, line):
    line.direction = "max"
    train(line, {"rate": 1.2}, project)
    assert weight(1) == pytest.approx(1 + 1.4**3)


OWN = '''"""Custom layers and named inputs."""

import keras
import tensorflow as tf

from keras_dl import Pipeline
from keras_dl.data import Splits, batches


class Twice(keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs


def distance(y_true, y_pred):
    return keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)


class Own(Pipeline):
    epochs = 1

    def data(self, hp):
        rows = tf.data.Dataset.from_tensor_slices(({"left": [[1.0]] * 4, "right": [[2.0]] * 4}, [[3.0]] * 4))
        return batches(Splits(rows, rows, rows), batch_size=2)

    def build(self, hp):
        left, right = keras.Input((1,), name="left"), keras.Input((1,), name="right")
        total = keras.layers.Dense(1, name="total")(Twice()(keras.layers.Add()([left, right])))
        model = keras.Model({"left": left, "right": right}, total)
        model.compile("sgd", distance)
        return model
'''


def test_custom_layers_and_named_inputs_are_trained_registered_and_exported(project, capsys):
    (project.root / "pipelines").mkdir()
    file = project.root / "pipelines" / "own.py"
    file.write_text(OWN)
    version = train(load_pipeline(file), {}, project)
    assert version.alias == "champion"
    loaded = tf.saved_model.load(str(project.saved_models / "own" / "1")).signatures["serving_default"]
    assert set(loaded(left=tf.ones((3, 1)), right=tf.ones((3, 1)))) == {"total"}
    shutil.rmtree(project.saved_models / "own")
    results = evaluate(load_pipeline(file), "1", "test", {}, project)
    assert results["loss"] >= 0
    assert export_version(load_pipeline(file), "champion", {}, project).is_dir()


def test_an_invalid_signature_raises_an_error_before_the_training(project, line):
    line.request = lambda example: {"x": np.ones((1, 7), "float32")}
    with pytest.raises(UserError, match="the signature of line cannot answer its own request"):
        train(line, {}, project)
    line.request = lambda example: {"y": np.ones((1, 1), "float32")}
    with pytest.raises(UserError, match=r"request\(example\) must return x. Received: y"):
        train(line, {}, project)
    assert registry.list_models() == []
