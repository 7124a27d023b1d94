"""A training run that was interrupted and resumed gives bit-identical results."""

import json
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import keras
import keras_tuner as kt
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.errors import UserError
from keras_dl.options import parse_objective
from keras_dl.training.fit import BEST, DONE, STATE, Progress, finished_training, fit
from keras_dl.training.state import read_state, write_state

from .network import MODELS, Kill, best_bits, bits, data, interrupt, network, plain, train


def decaying():
    """The network with a learning rate schedule, which depends on the optimizer's step counter."""
    rate = keras.optimizers.schedules.ExponentialDecay(0.05, decay_steps=3, decay_rate=0.8)
    return network(rate)


def callbacks():
    """Callbacks that reduce the learning rate after the second epoch and stop training early."""
    return [
        keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=1.0, cooldown=1),
        keras.callbacks.EarlyStopping("val_loss", patience=3, min_delta=1.0, restore_best_weights=True),
    ]


# name -> function that builds the model, function that creates its callbacks
TRAININGS = {"callbacks": (network, callbacks), "schedule": (decaying, list)}


Result = namedtuple("Result", "progress best_file variables optimizer rate")


def run(name, folder):
    """Starts or resumes the training run of this name and completes it."""
    build, made = TRAININGS[name]
    model, progress = train(folder, build, epochs=6, callbacks=made())
    rate = float(model.optimizer.learning_rate)
    return Result(progress, best_bits(folder), bits(model.variables), bits(model.optimizer.variables), rate)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """name -> the result of a training run without an interruption."""
    return {name: run(name, tmp_path_factory.mktemp(name)) for name in TRAININGS}


def assert_resumes(name, folder, uninterrupted):
    """Resumes a training run and compares everything except its time with the uninterrupted one."""
    result, whole = run(name, folder), uninterrupted[name]
    progress, expected = result.progress, whole.progress
    assert progress.rows == expected.rows
    assert (progress.best, progress.best_epoch) == (expected.best, expected.best_epoch)
    assert progress.stopped == expected.stopped
    assert result[1:] == whole[1:]
    assert sorted(os.listdir(folder)) == [BEST, DONE]


def test_the_uninterrupted_runs_are_suitable_references(uninterrupted):
    """The callbacks must have an effect, and all epochs must differ."""
    whole = uninterrupted["callbacks"]
    assert whole.progress.stopped and len(whole.progress.rows) == 4
    assert whole.rate < 0.02
    assert not uninterrupted["schedule"].progress.stopped
    for progress in (whole.progress, uninterrupted["schedule"].progress):
        assert set(progress.rows[0]) >= {"loss", "precision", "val_loss", "val_precision"}
        assert len({row["loss"] for row in progress.rows}) == len(progress.rows)


@pytest.mark.parametrize(
    "name, kills", [("callbacks", [1, 2, 2, 3]), ("schedule", [0, 3])], ids=["callbacks", "schedule"]
)
def test_an_interrupted_training_resumes_with_the_same_numbers(name, kills, uninterrupted, tmp_path):
    build, made = TRAININGS[name]
    for epoch in kills:
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, build, epochs=6, callbacks=made(), killed_in=epoch)
        assert sorted(os.listdir(tmp_path)) == ([BEST, STATE] if epoch else [])
    assert_resumes(name, tmp_path, uninterrupted)


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from training.network import train
from training.test_fit import callbacks, network
train(Path(sys.argv[2]), network, epochs=6, callbacks=callbacks(), killed_in=2, kill=lambda: os._exit(3))
"""


@pytest.mark.slow  # in the default tier a killed search is resumed
def test_a_training_of_a_killed_process_is_resumed_by_another(uninterrupted, tmp_path):
    """`os._exit` skips all cleanup, like a kill. That process compiles its own model."""
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent.parent), str(tmp_path)]
    assert subprocess.run(command, timeout=120).returncode == 3
    assert len(read_state(tmp_path / STATE)[2]["record"]["rows"]) == 2
    assert_resumes("callbacks", tmp_path, uninterrupted)


def test_resumes_after_a_kill_between_writing_the_best_epoch_and_the_state(uninterrupted, tmp_path, monkeypatch):
    """The file of the best epoch is then newer than the state."""
    replace, files = os.replace, []

    def killed_at_a_state(source, target):
        files.append(os.path.basename(target))
        if files == [BEST, STATE, BEST, STATE]:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", killed_at_a_state)
        train(tmp_path, decaying, epochs=6)
    for temporary in tmp_path.glob("*.tmp*"):
        temporary.unlink()
    assert_resumes("schedule", tmp_path, uninterrupted)


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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The progress and the final variables of four epochs without an interruption."""
    model, progress = train(tmp_path_factory.mktemp("whole"))
    return progress, bits(model.variables), bits(model.optimizer.variables)


def of_other_layers(file):
    write_state(file, plain(units=5), [keras.callbacks.Callback()], {"rows": [{"loss": 1.0}]})


def of_other_callbacks(file):
    write_state(file, plain(), [keras.callbacks.Callback()] * 2, {"rows": [{"loss": 1.0}]})


def torn(file):
    write_state(file, plain(), [keras.callbacks.Callback()], {"rows": [{"loss": 1.0}]})
    file.write_bytes(file.read_bytes()[:-100])


def of_another_format(file):
    np.savez(file, np.frombuffer(b'{"variables": 0, "names": []}', np.uint8))


def empty(file):
    file.write_bytes(b"")


@pytest.mark.parametrize("spoil", [of_other_layers, of_other_callbacks, torn, of_another_format, empty])
def test_an_unusable_state_is_ignored(spoil, whole, tmp_path):
    spoil(tmp_path / STATE)
    model, progress = train(tmp_path, epochs=2)
    assert progress.rows == whole[0].rows[:2]
    assert int(model.optimizer.iterations) == 2 * 4


def test_a_finished_training_is_not_trained_again(tmp_path):
    _, progress = train(tmp_path, epochs=2)
    before, reported = best_bits(tmp_path), []
    model, same = train(tmp_path, epochs=2, report=lambda epoch, logs: reported.append((epoch, logs)))
    assert same == progress == finished_training(tmp_path)
    assert reported == list(enumerate(progress.rows)) and best_bits(tmp_path) == before
    assert int(model.optimizer.iterations) == 0
    content = json.loads((tmp_path / DONE).read_text())
    assert (content["rows"], content["best"]) == (progress.rows, progress.best) and content["seconds"] > 0
    assert Progress(**content).next_epoch == 2


@pytest.mark.parametrize("content", [None, "", "{", "[1]", '{"rows": [], "other": 1}'])
def test_a_damaged_record_of_a_finished_training_is_ignored(content, tmp_path):
    if content is not None:
        (tmp_path / DONE).write_text(content)
    assert finished_training(tmp_path) is None


def test_continuing_another_training_equals_one_long_training(whole, tmp_path):
    """As for Hyperband's promoted trials: two epochs each, with the optimizer's state, and an interruption."""
    early, late = tmp_path / "early", tmp_path / "late"
    _, first = train(early, epochs=2, last=True)
    assert first.next_epoch == 2 and read_state(early / STATE)[2]["record"]["rows"] == first.rows
    with pytest.raises(KeyboardInterrupt):
        train(late, begin=2, origin=early, killed_in=3)
    model, second = train(late, begin=2, origin=early)
    assert (second.begin, first.rows + second.rows) == (2, whole[0].rows)
    assert second.best_epoch == 2 + int(np.argmin([row["val_loss"] for row in second.rows]))
    assert (bits(model.variables), bits(model.optimizer.variables)) == whole[1:]


def test_the_epochs_of_a_lost_origin_are_repeated(whole, tmp_path):
    (tmp_path / "lost").mkdir()
    torn(tmp_path / "lost" / STATE)
    _, progress = train(tmp_path / "late", begin=2, origin=tmp_path / "lost")
    assert (progress.begin, progress.rows) == (0, whole[0].rows)


@pytest.mark.parametrize("killed_in", [None, 1])
def test_a_report_can_stop_the_training(killed_in, whole, tmp_path):
    reported = []

    def report(epoch, logs):
        reported.append((epoch, logs["val_loss"]))
        return epoch == 2

    if killed_in is not None:
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, report=report, killed_in=killed_in)
        reported.clear()
    _, progress = train(tmp_path, report=report)
    assert progress.stopped and progress.rows == whole[0].rows[:3]
    assert reported == [(epoch, row["val_loss"]) for epoch, row in enumerate(progress.rows)]  # and those before
    assert finished_training(tmp_path).stopped and not (tmp_path / STATE).exists()


def test_a_stopped_training_that_is_killed_before_its_end_does_not_train_again(tmp_path):
    def stop(epoch, logs):
        return epoch == 1

    model, first = train(tmp_path, report=stop, last=True)
    variables = bits(model.variables)
    (tmp_path / DONE).unlink()
    model, second = train(tmp_path, report=stop, last=True)
    assert second.rows == first.rows and second.stopped
    assert bits(model.variables) == variables


def test_seconds_include_those_before_an_interruption(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, epochs=2, killed_in=1)
    spent = read_state(tmp_path / STATE)[2]["record"]["seconds"]
    _, progress = train(tmp_path, epochs=2)
    assert progress.seconds > spent > 0
    assert (tmp_path / BEST).exists()


def test_the_order_of_the_data_depends_on_the_epoch_number(tmp_path):
    """Also in a resumed training run."""
    seen, splits = [], data()

    class Order(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(int(splits.epoch))

    for epochs in (1, 3):
        fit(MODELS.take(plain()), splits, tmp_path, parse_objective("val_loss"), epochs, watchers=[Order()], last=True)
        (tmp_path / DONE).unlink()
    assert seen == [0] * 4 + [1] * 4 + [2] * 4
