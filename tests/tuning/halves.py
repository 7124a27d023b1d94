"""A tiny pipeline that can be stopped at any epoch, and access to the runs of its searches."""

import json
import signal
from pathlib import Path

import mlflow

from keras_dl.pipeline import load_pipeline

# Every fit is recorded in fits.jsonl. A file `stop` with "fit epoch signal" stops the fit with this number (or a later
# one), counted from 1, before this epoch, counted from 0, with this signal; 0 raises KeyboardInterrupt.
PIPELINE = '''"""Classifies which half of a signal is larger."""

import json
import os
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_dl import Pipeline
from keras_dl.data import Splits, batches, load

HERE = Path(__file__).parent


def halves(count, seed):
    signal = np.random.default_rng(seed).normal(size=(count, 6, 1)).astype("float32")
    larger = signal[:, :3].sum(1) > signal[:, 3:].sum(1)
    return tf.data.Dataset.from_tensor_slices((signal, larger.astype("float32"))).cache()


class Record(keras.callbacks.Callback):
    def __init__(self, values):
        super().__init__()
        self.values = values

    def on_train_begin(self, logs=None):
        with open(HERE / "fits.jsonl", "a") as file:
            file.write(json.dumps({**self.values, "iterations": int(self.model.optimizer.iterations)}) + "\\n")

    def on_epoch_begin(self, epoch, logs=None):
        fits = len((HERE / "fits.jsonl").read_text().splitlines())
        try:
            fit, when, number = map(int, (HERE / "stop").read_text().split())
            if fits < fit or epoch != when:
                return
            (HERE / "stop").rename(HERE / "stopped")  # succeeds in one worker only
        except FileNotFoundError:
            return
        if number == 0:
            raise KeyboardInterrupt
        os.kill(os.getpid(), number)


class Halves(Pipeline):
    objective = "val_loss"
    epochs = 2
    trials = 3

    def data(self, hp):
        if self.source:
            splits = load(self.source)
        else:
            splits = Splits(halves(64, 1), halves(32, 2), halves(32, 3))
        return batches(splits, hp.Choice("batch_size", [32, 64], default=64), seed=self.seed)

    def build(self, hp):
        units = hp.Int("units", 2, 4, default=3)
        rate = hp.Float("rate", 1e-3, 1e-1, sampling="log", default=1e-2)
        cell = hp.Choice("cell", ["max", "mean"], default="max")
        bias = hp.Boolean("bias", default=True)
        signal = keras.Input((None, 1), name="signal")
        pool = keras.layers.GlobalMaxPooling1D() if cell == "max" else keras.layers.GlobalAveragePooling1D()
        x = pool(keras.layers.Conv1D(units, 3, use_bias=bias, activation="relu")(signal))
        x = keras.layers.Dropout(0.1)(x)
        model = keras.Model(signal, keras.layers.Dense(1, "sigmoid", name="larger")(x))
        loss = "binary_crossentropy"
        # BUILD
        model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"], jit_compile=False)
        return model

    def callbacks(self, hp):
        return [Record(dict(hp.values))]
'''

# Pins that leave only `units`, with three values.
GRID = {"batch_size": 64, "rate": 0.01, "cell": "max", "bias": True}
INTERRUPT, KILL = 0, int(signal.SIGKILL)


def write_pipeline(root, build=""):
    """Writes and loads the pipeline; `build` are lines to insert before its `compile`."""
    file = root / "pipelines" / "halves.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(PIPELINE.replace("# BUILD", build.replace("\n", "\n        ")))
    return load_pipeline(file)


def stop(root, fit, epoch, number=INTERRUPT):
    """Stops a fit before an epoch."""
    (root / "pipelines" / "stop").write_text(f"{fit} {epoch} {int(number)}")


def fits(settings):
    """Returns the values of every fit so far, including resumed ones, with the optimizer's steps before it."""
    file = settings.root / "pipelines" / "fits.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def client_of(settings):
    return mlflow.MlflowClient(tracking_uri=settings.tracking_uri)


def runs(settings, parent=None):
    """Returns the child runs of `parent`, or the runs without a parent, in the order in which they started."""
    client = client_of(settings)
    found = client.search_runs([client.get_experiment_by_name("halves").experiment_id])
    parent_id = parent and parent.info.run_id
    found = [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent_id]
    return sorted(found, key=lambda run: (run.info.start_time, run.info.run_name))


def curve(settings, run, metric="val_loss"):
    """Returns the points of a run's metric as `{step: value}`, and checks that no step is logged twice."""
    points = client_of(settings).get_metric_history(run.info.run_id, metric)
    assert len({point.step for point in points}) == len(points)
    return {point.step: point.value for point in points}


def curves(settings, parent):
    """Returns `{name: curve}` of the child runs of a run."""
    return {run.info.run_name: curve(settings, run) for run in runs(settings, parent)}


def artifacts(settings, run):
    return {file.path for file in client_of(settings).list_artifacts(run.info.run_id)}


def text_of(run, name):
    return Path(run.info.artifact_uri.removeprefix("file://"), name).read_text()
