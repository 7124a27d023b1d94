"""A training that is killed goes on with the same numbers, to the last bit, as one that is not."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from keras_dl.training.fit import BEST, DONE, STATE
from keras_dl.training.state import read_state

from .network import best_bits, bits, network, train


def decaying():
    """Adam whose rate is a schedule, which goes by the optimizer's own count of steps."""
    rate = keras.optimizers.schedules.ExponentialDecay(0.05, decay_steps=3, decay_rate=0.8)
    return network(rate)


def callbacks():
    """The rate falls at the second epoch and then rests; the training stops before its end."""
    return [
        keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=1.0, cooldown=1),
        keras.callbacks.EarlyStopping("val_loss", patience=3, min_delta=1.0, restore_best_weights=True),
    ]


# name -> how the model is built, how its callbacks are made
TRAININGS = {"callbacks": (network, callbacks), "schedule": (decaying, list)}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """name -> the folder, the model and the progress of a training that nothing stopped."""
    folders = {name: tmp_path_factory.mktemp(name) for name in TRAININGS}
    return {
        name: (folders[name], *train(folders[name], build, epochs=6, callbacks=made()))
        for name, (build, made) in TRAININGS.items()
    }


def assert_goes_on(name, folder, uninterrupted):
    """Rows, best epoch, the best epoch's file and the variables of model and optimizer are the same."""
    build, made = TRAININGS[name]
    model, progress = train(folder, build, epochs=6, callbacks=made())
    whole_folder, whole_model, whole = uninterrupted[name]
    assert progress.rows == whole.rows
    assert (progress.best, progress.best_epoch, progress.stopped) == (whole.best, whole.best_epoch, whole.stopped)
    assert best_bits(folder) == best_bits(whole_folder)
    assert bits(model.variables) == bits(whole_model.variables)
    assert bits(model.optimizer.variables) == bits(whole_model.optimizer.variables)
    assert sorted(os.listdir(folder)) == [BEST, DONE]  # nothing is left beyond the best


def test_the_trainings_here_show_what_they_are_for(uninterrupted):
    """Otherwise the comparisons below could not fail."""
    _, model, progress = uninterrupted["callbacks"]
    assert progress.stopped and len(progress.rows) == 4
    assert float(model.optimizer.learning_rate) < 0.02
    assert not uninterrupted["schedule"][2].stopped
    for _, _, progress in uninterrupted.values():
        assert set(progress.rows[0]) >= {"loss", "precision", "val_loss", "val_precision"}
        assert len({row["loss"] for row in progress.rows}) == len(progress.rows)


@pytest.mark.parametrize(
    "name, kills", [("callbacks", [1, 2, 2, 3]), ("schedule", [0, 3])], ids=["callbacks", "schedule"]
)
def test_an_interrupted_training_goes_on_with_the_same_numbers(name, kills, uninterrupted, tmp_path):
    build, made = TRAININGS[name]
    for epoch in kills:
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, build, epochs=6, callbacks=made(), killed_in=epoch)
        assert sorted(os.listdir(tmp_path)) == ([BEST, STATE] if epoch else [])
    assert_goes_on(name, tmp_path, uninterrupted)


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from training.network import train
from training.test_fit import callbacks, network
train(Path(sys.argv[2]), network, epochs=6, callbacks=callbacks(), killed_in=2, kill=lambda: os._exit(3))
"""


def test_a_process_that_ends_at_once_leaves_what_another_goes_on_from(uninterrupted, tmp_path):
    """os._exit in another process, as a kill: nothing is cleaned up."""
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent.parent), str(tmp_path)]
    assert subprocess.run(command, timeout=120).returncode == 3
    assert len(read_state(tmp_path / STATE)[2]["record"]["rows"]) == 2
    assert_goes_on("callbacks", tmp_path, uninterrupted)


def test_a_kill_between_the_best_epochs_file_and_the_state(uninterrupted, tmp_path, monkeypatch):
    """The file is then of an epoch that the state does not know of yet."""
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
    assert_goes_on("schedule", tmp_path, uninterrupted)
