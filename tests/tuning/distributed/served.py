"""A search without training, for tests of chief and workers."""

import contextlib
import threading
import time

import keras_tuner as kt

from keras_dl.tuning.distributed.chief import Chief
from keras_dl.tuning.distributed.client import ChiefClient
from keras_dl.tuning.oracles import make_oracle
from keras_dl.tuning.results import SCORE

VERSIONS = {"keras_dl": "0.1.0", "keras": "3.15.1"}
IDENTITY = {"versions": VERSIONS, "pipeline": "waves", "digests": {"waves.py": "a" * 64}}
SEARCH = "0f1e2d3c"


def new_oracle(folder, trials=4, reload=False):
    """Returns the oracle of a random search of a learning rate."""
    space = kt.HyperParameters()
    space.Float("rate", 1e-4, 1e-1, sampling="log", default=0.003)
    oracle = make_oracle("random", kt.Objective("val_loss", "min"), trials, 3, 0, space)
    oracle._set_project_dir(folder.parent, folder.name)
    if reload:
        oracle.reload()
    return oracle


def new_chief(oracle, port=0, lease=60.0, **facts):
    return Chief(oracle, "127.0.0.1", port, {**IDENTITY, "search": SEARCH, **facts}, lease)


def silence(chief, name):
    """Lets the lease of a worker expire."""
    chief._heard[name] -= chief.lease
    chief._expire()


def client(chief, name, patience=20.0, identity=IDENTITY, **options):
    return ChiefClient(f"127.0.0.1:{chief.port}", name, identity, patience=patience, **options)


def score(trial):
    """The score of a trial: a function of its value, with more digits than single precision has."""
    return trial.hyperparameters.values["rate"] * 10 + 0.123456789012345


def run_one(client, trial, epochs=2, pause=0.0):
    """Runs a trial like a tuner."""
    for epoch in range(epochs):
        time.sleep(pause)
        if client.update_trial(trial.trial_id, {"val_loss": score(trial) + epochs - epoch}, epoch).status == "STOPPED":
            break
    if not client.lost:
        client.update_trial(trial.trial_id, {"val_loss": score(trial), SCORE: score(trial)}, epochs - 1)
        trial.status = "COMPLETED"
    client.end_trial(trial)


def run_all(client, done, **how):
    """Runs trials until the end of the search; their ids are appended to `done`."""
    with client:
        while (trial := client.create_trial()).status == "RUNNING":
            run_one(client, trial, **how)
            done.append(trial.trial_id)


@contextlib.contextmanager
def thread(function, *arguments, **options):
    """Runs a function in a thread while the context is entered; waits for its end."""
    runner = threading.Thread(target=function, args=arguments, kwargs=options, daemon=True)
    runner.start()
    yield runner
    runner.join(20)
    assert not runner.is_alive()
