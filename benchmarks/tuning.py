"""Measures the cost of a search beyond its training steps: keras_dl, tracked and resumable, against Keras Tuner.

    python benchmarks/tuning.py            # about 3 minutes on 2 cores

Both run the same 20 small trials (learning rate, batch size, dropout; 0.3 s of steps each), interleaved A B A B in one
process. Keras Tuner writes no runs and saves no state after epochs. The output contains the time of the trials, the
share not spent in Keras' loop over steps (such as tracing, compiling and starting the input pipeline), and for keras_dl
also the time of the whole command: finding the space, evaluation, registration, report and export.
"""

import contextlib
import io
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import keras
import keras_tuner as kt
import numpy as np
import tensorflow as tf

from keras_dl import Pipeline
from keras_dl.data import Splits, batches
from keras_dl.tracking.settings import Settings
from keras_dl.tuning.plan import Plan
from keras_dl.tuning.search import search
from keras_dl.tuning.tuner import TrialTuner

ROUNDS, TRIALS, EPOCHS = 2, 20, 3


def rows(count, seed):
    x = np.random.default_rng(seed).normal(size=(count, 16, 4)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x, (x.sum((1, 2)) > 0).astype("float32"))).cache()


class Steps(keras.callbacks.Callback):
    """Appends the time of an epoch's steps to a list: from the end of the first to that of the last, plus one step."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def on_epoch_begin(self, epoch, logs=None):
        self.train, self.test = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.train.append(time.perf_counter())

    def on_test_batch_end(self, batch, logs=None):
        self.test.append(time.perf_counter())

    def on_epoch_end(self, epoch, logs=None):
        for ends in (self.train, self.test):
            self.seconds.append((ends[-1] - ends[0]) * len(ends) / (len(ends) - 1))


class Small(Pipeline):
    objective = "val_accuracy"
    epochs, trials, name = EPOCHS, TRIALS, "small"
    file = Path(__file__)

    def __init__(self):
        self.splits = Splits(rows(2048, 1), rows(512, 2), rows(512, 3))
        self.seconds = []

    def data(self, hp):
        return batches(self.splits, hp.Choice("batch_size", [16, 32, 64]), seed=self.seed)

    def build(self, hp):
        signal = keras.Input((None, 4), name="signal")
        x = keras.layers.Conv1D(16, 3, activation="relu")(signal)
        x = keras.layers.GlobalAveragePooling1D()(x)
        x = keras.layers.Dropout(hp.Choice("dropout", [0.1, 0.2, 0.3, 0.5]))(x)
        model = keras.Model(signal, keras.layers.Dense(1, "sigmoid", name="positive")(x))
        rate = hp.Float("learning_rate", 1e-3, 1e-1, sampling="log")
        model.compile(keras.optimizers.Adam(rate), "binary_crossentropy", metrics=["accuracy"], jit_compile=False)
        return model

    def callbacks(self, hp):
        return [Steps(self.seconds)]


def ours(pipeline, folder):
    """Returns the seconds of the trials and of the whole search."""
    plain_search, trials = TrialTuner.search, []

    def timed(self):
        began = time.perf_counter()
        plain_search(self)
        trials.append(time.perf_counter() - began)

    TrialTuner.search = timed
    began = time.perf_counter()
    try:
        search(pipeline, Settings(root=folder), Plan(fresh=True))
    finally:
        TrialTuner.search = plain_search
    return trials[0], time.perf_counter() - began


def plain(pipeline, folder):
    """Returns the seconds of the trials, twice: the search consists of its trials."""

    class Model(kt.HyperModel):
        def declare_hyperparameters(self, hp):
            pipeline.data(hp)

        def build(self, hp):
            return pipeline.build(hp)

        def fit(self, hp, model, callbacks, **kwargs):
            splits, callbacks = pipeline.data(hp), [*callbacks, *pipeline.callbacks(hp)]
            return model.fit(
                splits.train, validation_data=splits.validation, verbose=0, shuffle=False, callbacks=callbacks, **kwargs
            )

    objective = kt.Objective(pipeline.objective, "max")
    tuner = kt.RandomSearch(Model(), objective, TRIALS, seed=1, directory=folder, project_name="plain", overwrite=True)
    began = time.perf_counter()
    tuner.search(epochs=EPOCHS, callbacks=[])
    seconds = time.perf_counter() - began
    return seconds, seconds


def main():
    pipeline = Small()
    measured = {plain: [], ours: []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS + 1):  # the first round is a warm-up: imports, a new store
            for function in (plain, ours):
                pipeline.seconds.clear()
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    trials, whole = function(pipeline, Path(folder))
                if number:
                    measured[function].append((trials, whole, sum(pipeline.seconds)))
    print(f"{TRIALS} trials x {EPOCHS} epochs, {ROUNDS} rounds, {os.cpu_count()} cores, {platform.machine()}; medians")
    print(f"{'':28} {'trials':>8} {'in steps':>9} {'outside':>8} {'whole command':>14}")
    for function, name in ((plain, "plain Keras Tuner"), (ours, "keras_dl, with MLflow")):
        trials, whole, steps = (statistics.median(column) for column in zip(*measured[function], strict=True))
        outside = statistics.median(1 - row[2] / row[0] for row in measured[function])
        print(f"{name:28} {trials:6.2f} s {steps:7.2f} s {outside:8.0%} {whole:12.2f} s")
    ratios = [a[0] / b[0] for a, b in zip(measured[ours], measured[plain], strict=True)]
    print(f"trials, ours / plain         {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
