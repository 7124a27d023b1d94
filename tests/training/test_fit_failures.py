"""A training run that cannot succeed stops and reports why."""

import os

import keras
import keras_tuner as kt
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.errors import UserError
from keras_dl.options import parse_objective
from keras_dl.training.fit import BEST, DONE, STATE, fit

from .network import Kill, data, interrupt, plain, train


@pytest.fixture(scope="module")
def gap():
    """gap(*epochs): a function like `train`, whose metric `gap` is NaN in these epochs and falls otherwise."""
    splits, model, bad = data(), plain(), tf.Variable([0], shape=(None,), dtype=tf.int64)

    def gap(target, output):
        is_bad = tf.reduce_any(splits.epoch.read_value() == bad)
        return tf.where(is_bad, np.nan, 1 / (1 + tf.cast(splits.epoch, tf.float32))) + 0 * output

    model.compile("sgd", "mse", metrics=[gap], jit_compile=False)

    def in_epochs(*epochs):
        def run(folder, killed_in=None, **options):
            bad.assign(np.array(epochs, "int64"))
            watchers = [] if killed_in is None else [Kill(killed_in, interrupt)]
            return fit(model, splits, folder, parse_objective("val_gap:min"), epochs=6, watchers=watchers, **options)

        return run

    return in_epochs


def test_without_patience_the_first_nan_stops_the_training(gap, tmp_path):
    with pytest.raises(kt.errors.FailedTrialError, match=r"^val_gap is nan in epoch 3$"):
        gap(2)(tmp_path)
    assert not (tmp_path / DONE).exists()


def test_patience_counts_consecutive_epochs(gap, tmp_path):
    progress = gap(1, 3, 4)(tmp_path / "never three", nan_patience=2)
    assert [np.isnan(row["val_gap"]) for row in progress.rows] == [False, True, False, True, True, False]
    assert (progress.best_epoch, progress.best) == (5, pytest.approx(1 / 6))  # never an epoch with NaN
    with pytest.raises(kt.errors.FailedTrialError, match=r"^val_gap is nan in epoch 5$"):
        gap(1, 3, 4)(tmp_path / "two", nan_patience=1)


def test_the_count_is_kept_when_the_training_is_resumed(gap, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        gap(2, 3)(tmp_path, nan_patience=1, killed_in=3)
    with pytest.raises(kt.errors.FailedTrialError, match="in epoch 4"):
        gap(2, 3)(tmp_path, nan_patience=1)


def test_a_training_with_nan_in_every_epoch_fails(gap, tmp_path):
    with pytest.raises(kt.errors.FailedTrialError, match="val_gap was NaN or infinite in every epoch"):
        gap(0, 1, 2, 3, 4, 5)(tmp_path, nan_patience=10)
    assert not (tmp_path / BEST).exists() and not (tmp_path / DONE).exists()


def test_a_nan_loss_stops_the_training_even_if_the_objective_is_finite(tmp_path):
    def build():
        model = plain()
        model.compile("sgd", lambda target, output: keras.ops.mean(output) * np.nan, metrics=["mae"], jit_compile=False)
        return model

    with pytest.raises(kt.errors.FailedTrialError, match="loss is nan in epoch 1"):
        train(tmp_path, build=build, objective="val_mae")


@pytest.mark.parametrize("text", ["val_accuracy", "val_loss,val_accuracy"])
def test_an_unknown_objective_is_reported_with_the_known_metrics(text, tmp_path):
    message = "^the objective 'val_accuracy' is not among the metrics: loss, val_loss$"
    with pytest.raises(UserError, match=message):
        train(tmp_path, objective=text)


def test_an_objective_can_combine_several_metrics(tmp_path):
    _, progress = train(tmp_path, epochs=3, objective="val_loss:0.5,loss:2:max")
    values = [0.5 * row["val_loss"] - 2 * row["loss"] for row in progress.rows]
    assert (progress.best, progress.best_epoch) == (pytest.approx(min(values)), int(np.argmin(values)))


def test_a_full_disk_stops_the_training_and_leaves_a_valid_state(tmp_path, monkeypatch):
    fsync, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 4:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(os, "fsync", full)
        train(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [BEST, STATE]  # no temporary file
    _, progress = train(tmp_path)
    assert len(progress.rows) == 4


@pytest.mark.parametrize("verbose", [0, 2])
def test_a_vector_metric_raises_an_error(verbose, tmp_path):
    def build():
        model = plain()
        score = keras.metrics.F1Score(average=None, name="f1")
        model.compile("sgd", "mse", metrics=[score], jit_compile=False)
        return model

    message = r"^expected metrics that are single numbers, as with average='macro'. Received: 'f1' of shape \(1,\)$"
    with pytest.raises(UserError, match=message):
        train(tmp_path, build=build, verbose=verbose)


def test_a_train_step_need_not_return_the_loss(tmp_path):
    class Silent(keras.Model):
        def train_step(self, batch):
            return {name: value for name, value in super().train_step(batch).items() if name != "loss"}

    def build():
        model = plain()
        model = Silent(model.inputs, model.outputs)
        model.compile("sgd", "mse", metrics=["mae"], jit_compile=False)
        return model

    _, progress = train(tmp_path, build=build, epochs=2, objective="val_mae")
    assert [sorted(row) for row in progress.rows] == [["mae", "val_loss", "val_mae"]] * 2


class Adds(keras.callbacks.Callback):
    """Adds a metric to the logs of each epoch."""

    def __init__(self, *values):
        super().__init__()
        self.given = values

    def on_epoch_end(self, epoch, logs=None):
        logs["val_own"] = self.given[epoch]


def test_a_metric_of_a_callback_can_be_the_objective(tmp_path):
    _, progress = train(tmp_path, objective="val_own:max", callbacks=[Adds(1.0, 3.0, 2.0, 0.0)])
    assert (progress.best, progress.best_epoch) == (3.0, 1)
    with pytest.raises(kt.errors.FailedTrialError, match="^val_own is nan in epoch 2$"):
        train(tmp_path / "bad", objective="val_own:max", callbacks=[Adds(1.0, np.nan)])
