"""A training run that was interrupted and resumed gives bit-identical results."""

import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import keras
import pytest

from keras_dl.training.fit import BEST, DONE, STATE
from keras_dl.training.state import read_state

from .network import best_bits, bits, network, train


def decaying():
    """The network with a learning rate schedule, which depends on the optimizer's step counter."""
    rate = keras.optimizers.schedules.ExponentialDecay(0.05, decay_steps=3, decay_rate=0.8)
    return network(rate)


def callbacks():
    """Callbacks that reduce the learning rate after the second epoch and stop the training early."""
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


def test_the_uninterrupted_trainings_are_suitable_references(uninterrupted):
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
