"""Training with `keras-dl train`: the run in MLflow, and errors before training."""

import errno
import json
import math
import os
import shutil

import filelock
import keras
import mlflow
import numpy as np
import pytest
import tensorflow as tf

from keras_dl import durable
from keras_dl.errors import UserError
from keras_dl.pipeline import load_pipeline
from keras_dl.release import publish as publishing
from keras_dl.release import registry
from keras_dl.release.evaluate import evaluate, export_version
from keras_dl.training import job
from keras_dl.training import train as training
from keras_dl.training.train import train

from ..line import run_of, weight
from .network import MODELS, interrupt


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


@pytest.fixture(autouse=True)
def shared_models(monkeypatch):
    """Compiles the model once for all training runs."""
    monkeypatch.setattr(training, "CompiledModels", lambda: MODELS)


@pytest.fixture
def stop(line):
    """stop(epoch): interrupts the next training run at the start of this epoch, counted from 0."""
    epochs = []

    def begins(epoch, logs=None):
        if epoch in epochs:
            epochs.remove(epoch)
            raise KeyboardInterrupt

    line.callbacks = lambda hp: [keras.callbacks.LambdaCallback(on_epoch_begin=begins)]
    return epochs.append


def runs():
    return mlflow.search_runs(experiment_names=["line"], order_by=["attributes.start_time"], output_format="list")


def curve(run):
    return [(p.step, p.value) for p in mlflow.MlflowClient().get_metric_history(run.info.run_id, "val_loss")]


def state_of(project):
    return project.root / "searches" / "line.training"


def test_a_training_is_resumed_in_the_same_run_and_registers_its_model_once(project, line, stop, monkeypatch, capsys):
    stop(2)
    with pytest.raises(KeyboardInterrupt):
        train(line, {"rate": 1.2}, project)
    (run,) = runs()
    assert run.info.status == "KILLED" and [step for step, _ in curve(run)] == [0, 1]
    assert json.loads((state_of(project) / "training.json").read_text())["run_id"] == run.info.run_id

    def killed(*arguments):
        publish(*arguments)
        raise KeyboardInterrupt

    publish = job.publish
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(job, "publish", killed)
        train(line, {"rate": 1.2}, project)
    assert [row["version"] for row in registry.list_models()] == [1]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(job, "export_champion", lambda *arguments: interrupt())
        train(line, {"rate": 1.2}, project)
    assert not list(project.saved_models.glob("line/*"))
    capsys.readouterr()
    version = train(line, {"rate": 1.2}, project)
    output = capsys.readouterr().out
    assert "resuming an interrupted training run; --fresh starts over" in output
    assert "model  line version 1, champion: registered before the interruption" in output
    assert (version.version, version.alias, version.why) == (1, "champion", "the first version")
    assert [row["version"] for row in registry.list_models()] == [1]
    assert (project.saved_models / "line" / "1" / "saved_model.pb").is_file()
    (run,) = runs()
    assert run.info.status == "FINISHED" and run.data.tags["best_epoch"] == "1"
    assert curve(run) == [(epoch, pytest.approx(1.4 ** (2 * epoch + 2), rel=1e-4)) for epoch in range(3)]
    assert weight(1) == pytest.approx(2.4)
    assert not state_of(project).exists()


def stopped(line, project, stop, epoch=1, **arguments):
    stop(epoch)
    with pytest.raises(KeyboardInterrupt):
        train(line, {"rate": 1.2}, project, **arguments)


def test_a_failed_export_reports_the_command_and_leaves_no_state(project, line, monkeypatch):
    def full(*arguments):
        raise UserError("the disk is full")

    monkeypatch.setattr(publishing, "export", full)
    message = r"^the disk is full. The model is safe in the registry; .* keras-dl export pipelines/line.py --model 1$"
    with pytest.raises(UserError, match=message):
        train(line, {"rate": 1.2}, project)
    assert [path.name for path in state_of(project).parent.iterdir()] == ["line.training.lock"]


def test_a_kill_while_the_state_is_removed_leaves_no_state(project, line, monkeypatch):
    remove = durable.shutil.rmtree

    def killed(path, *arguments, **options):
        if ".tmp-done-" in str(path):
            interrupt()
        return remove(path, *arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(durable.shutil, "rmtree", killed)
        train(line, {"rate": 1.2}, project)
    assert not state_of(project).exists() and list(state_of(project).parent.glob(".tmp-done-*"))
    train(line, {"rate": 1.2}, project)
    assert [path.name for path in state_of(project).parent.iterdir()] == ["line.training.lock"]


def other_values(line):
    return {"values": {"rate": 1.4}}


def other_seed(line):
    line.seed = 5
    return {}


def other_precision(line):
    line.precision = "mixed_bfloat16"
    return {}


def a_changed_file(line):
    line.file.write_text(line.file.read_text() + "\n")
    return {}


def fresh(line):
    return {"fresh": True}


CHANGES = {
    other_values: "starting over: the interrupted training run had rate=1.2\n",
    other_seed: "starting over: the interrupted training run had seed=0\n",
    other_precision: "starting over: the interrupted training run had precision=float32\n",
    a_changed_file: "starting over: the interrupted training run had another pipeline file\n",
    fresh: "",  # requested
}


@pytest.mark.parametrize(
    "change",
    [pytest.param(each, marks=pytest.mark.slow) if each in (other_seed, other_precision) else each for each in CHANGES],
)
def test_a_call_with_any_change_starts_over_and_closes_the_old_run(change, project, line, stop, capsys):
    stopped(line, project, stop)
    (old,) = runs()
    mlflow.MlflowClient().set_terminated(old.info.run_id, "RUNNING")  # as kill -9 leaves it
    stop(1)
    capsys.readouterr()
    with pytest.raises(KeyboardInterrupt):
        train(line, **{"values": {"rate": 1.2}, "settings": project, **change(line)})
    output = capsys.readouterr().out
    assert CHANGES[change] in output and ("starting over" in output) == bool(CHANGES[change])
    assert [run.info.status for run in runs()] == ["KILLED", "KILLED"]
    new = next(run for run in runs() if run.info.run_id != old.info.run_id)
    assert [step for step, _ in curve(new)] == [0]
    assert json.loads((state_of(project) / "training.json").read_text())["run_id"] == new.info.run_id


def test_a_full_disk_is_reported_and_finished_epochs_are_kept(project, line, stop, monkeypatch):
    fsync, states = os.fsync, []

    def full(descriptor):
        if "state.npz" in os.readlink(f"/proc/self/fd/{descriptor}"):
            states.append(descriptor)
            if len(states) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    message = r"the disk is full: .*Every finished epoch is kept in .*line\.training: the same command resumes"
    with monkeypatch.context() as patch, pytest.raises(UserError, match=message):
        patch.setattr(os, "fsync", full)
        train(line, {"rate": 1.2}, project)
    (run,) = runs()
    assert run.info.status == "FAILED" and "No space left" in run.data.tags["error"]
    stopped(line, project, stop, epoch=2)  # after two epochs; the first is not repeated
    (run,) = runs()
    assert run.info.status == "KILLED" and "error" not in run.data.tags
    assert [step for step, _ in curve(run)] == [0, 1]


def test_a_second_training_at_the_same_time_raises_an_error(project, line):
    state_of(project).parent.mkdir()
    with filelock.FileLock(f"{state_of(project)}.lock"):
        with pytest.raises(UserError, match="another training run of line is running"):
            train(line, {}, project)
    assert runs() == []
