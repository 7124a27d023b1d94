"""What a training begins with: its own state, another's, one that is no use, or an end that is known."""

import json

import keras
import numpy as np
import pytest

from keras_dl.objective import parse_objective
from keras_dl.training.fit import BEST, DONE, STATE, Progress, finished_training, fit
from keras_dl.training.state import read_state, write_state

from .network import best_bits, bits, data, plain, train


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The model and the progress of four epochs at once."""
    return train(tmp_path_factory.mktemp("whole"))


def of_other_layers(file):
    write_state(file, plain(units=5), [keras.callbacks.Callback()], {"rows": [{"loss": 1.0}]})


def of_other_callbacks(file):
    write_state(file, plain(), [keras.callbacks.Callback()] * 2, {"rows": [{"loss": 1.0}]})


def torn(file):
    write_state(file, plain(), [keras.callbacks.Callback()], {"rows": [{"loss": 1.0}]})
    file.write_bytes(file.read_bytes()[:-100])


def of_something_else(file):
    np.savez(file, np.frombuffer(b'{"variables": 0, "names": []}', np.uint8))


def empty(file):
    file.write_bytes(b"")


@pytest.mark.parametrize("spoil", [of_other_layers, of_other_callbacks, torn, of_something_else, empty])
def test_from_a_state_that_is_not_its_own_a_training_begins_anew(spoil, whole, tmp_path):
    spoil(tmp_path / STATE)
    model, progress = train(tmp_path, epochs=2)
    assert progress.rows == whole[1].rows[:2]
    assert int(model.optimizer.iterations) == 2 * 4


def test_a_finished_training_is_not_trained_again(tmp_path):
    _, progress = train(tmp_path, epochs=2)
    before, told = best_bits(tmp_path), []
    model, same = train(tmp_path, epochs=2, report=lambda epoch, logs: told.append((epoch, logs)))
    assert same == progress == finished_training(tmp_path)
    assert told == list(enumerate(progress.rows)) and best_bits(tmp_path) == before
    assert int(model.optimizer.iterations) == 0
    content = json.loads((tmp_path / DONE).read_text())
    assert (content["rows"], content["best"]) == (progress.rows, progress.best) and content["seconds"] > 0
    assert Progress(**content).next_epoch == 2


@pytest.mark.parametrize("content", [None, "", "{", "[1]", '{"rows": [], "other": 1}'])
def test_a_damaged_end_is_none(content, tmp_path):
    if content is not None:
        (tmp_path / DONE).write_text(content)
    assert finished_training(tmp_path) is None


def test_a_training_that_goes_on_from_another_is_one_training(whole, tmp_path):
    """As Hyperband's promoted trials do: two epochs there, two here, with the optimizer's state; and killed too."""
    early, late = tmp_path / "early", tmp_path / "late"
    _, first = train(early, epochs=2, last=True)
    assert first.next_epoch == 2 and read_state(early / STATE)[2]["record"]["rows"] == first.rows
    with pytest.raises(KeyboardInterrupt):
        train(late, begin=2, origin=early, killed_in=3)
    model, second = train(late, begin=2, origin=early)
    assert (second.begin, first.rows + second.rows) == (2, whole[1].rows)
    assert second.best_epoch == 2 + int(np.argmin([row["val_loss"] for row in second.rows]))
    assert bits(model.variables) == bits(whole[0].variables)
    assert bits(model.optimizer.variables) == bits(whole[0].optimizer.variables)


def test_where_the_training_to_go_on_from_is_lost_its_epochs_are_done_again(whole, tmp_path):
    (tmp_path / "lost").mkdir()
    torn(tmp_path / "lost" / STATE)
    _, progress = train(tmp_path / "late", begin=2, origin=tmp_path / "lost")
    assert (progress.begin, progress.rows) == (0, whole[1].rows)


@pytest.mark.parametrize("killed_in", [None, 1])
def test_who_is_told_of_an_epoch_may_end_the_training(killed_in, whole, tmp_path):
    told = []

    def tell(epoch, logs):
        told.append((epoch, logs["val_loss"]))
        return epoch == 2

    if killed_in is not None:
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, report=tell, killed_in=killed_in)
        told.clear()
    _, progress = train(tmp_path, report=tell)
    assert progress.stopped and progress.rows == whole[1].rows[:3]
    assert told == [(epoch, row["val_loss"]) for epoch, row in enumerate(progress.rows)]  # earlier processes' too
    assert finished_training(tmp_path).stopped and not (tmp_path / STATE).exists()


def test_a_stopped_training_that_was_killed_before_it_was_done_trains_no_further(tmp_path):
    def stop(epoch, logs):
        return epoch == 1

    model, first = train(tmp_path, report=stop, last=True)
    (tmp_path / DONE).unlink()
    again, second = train(tmp_path, report=stop, last=True)
    assert second.rows == first.rows and second.stopped
    assert bits(again.variables) == bits(model.variables)


def test_seconds_are_those_of_all_processes(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, epochs=2, killed_in=1)
    spent = read_state(tmp_path / STATE)[2]["record"]["seconds"]
    _, progress = train(tmp_path, epochs=2)
    assert progress.seconds > spent > 0
    assert (tmp_path / BEST).exists()


def test_every_epoch_has_the_order_of_its_number(tmp_path):
    """In a training that goes on too."""
    seen, splits = [], data()

    class Order(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(int(splits.epoch))

    for epochs in (1, 3):
        fit(plain(), splits, tmp_path, parse_objective("val_loss"), epochs, watchers=[Order()], last=True)
        (tmp_path / DONE).unlink()
    assert seen == [0] * 4 + [1] * 4 + [2] * 4
