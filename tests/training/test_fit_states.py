"""The state from which a training run starts: none, its own, that of another training run, or an unusable one."""

import json

import keras
import numpy as np
import pytest

from keras_dl.options import parse_objective
from keras_dl.training.fit import BEST, DONE, STATE, Progress, finished_training, fit
from keras_dl.training.state import read_state, write_state

from .network import MODELS, best_bits, bits, data, plain, train


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
