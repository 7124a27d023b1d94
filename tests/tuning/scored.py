"""Oracles without training: the score of a trial is computed from its values."""

import keras_tuner as kt

from keras_dl.tuning import tuner  # noqa: F401  makes Keras Tuner write its files atomically
from keras_dl.tuning.oracles import make_oracle
from keras_dl.tuning.results import SCORE

UNITS, CELLS, RATES = [8, 16, 32], ["lstm", "gru"], (1e-3, 1e-1)
DEFAULTS = {"units": 16, "cell": "gru", "rate": 1e-2}


def space(hp, continuous=True):
    hp.Choice("units", UNITS, default=16)
    hp.Choice("cell", CELLS, default="gru")
    if continuous:
        hp.Float("rate", *RATES, sampling="log", default=1e-2)
    return hp


def made(name, folder, trials=8, seed=0, direction="min", pins=None, continuous=True, epochs=9):
    """Creates an oracle like `search`: first the pins, then the hyperparameters of the pipeline."""
    hp = kt.HyperParameters()
    for pin, value in (pins or {}).items():
        hp.Fixed(pin, value)
    oracle = make_oracle(name, kt.Objective("val_loss", direction), trials, epochs, seed, hp)
    oracle._set_project_dir(folder, "trials")
    oracle.update_space(space(oracle.get_space(), continuous))
    return oracle


def again(oracle):
    """Returns the oracle of a new process that resumes the saved state of this one."""
    pins = {entry.name: entry.value for entry in oracle.hyperparameters.space if type(entry).__name__ == "Fixed"}
    hp = kt.HyperParameters()
    for pin, value in pins.items():
        hp.Fixed(pin, value)
    name = type(oracle).__name__.removesuffix("Oracle").lower()
    epochs = getattr(oracle, "max_epochs", 9)
    other = make_oracle(name, oracle.objective, oracle.max_trials, epochs, oracle.seed - 1, hp)
    other._set_project_dir(oracle._directory, oracle._project_name)
    other.early_stopping, other.max_time = oracle.early_stopping, oracle.max_time
    other.reload()
    return other


def score(trial):
    return trial.hyperparameters.get("units") / 32


def run(oracle, most=1000, score=score):
    """Runs at most this number of trials; returns the values of each."""
    values = []
    while len(values) < most:
        trial = oracle.create_trial("tuner0")
        if trial.status != "RUNNING":
            break
        values.append(dict(trial.hyperparameters.values))
        end(oracle, trial, score=score)
    return values


def end(oracle, trial, status="COMPLETED", score=score):
    """Ends a trial like the tuner does."""
    if status == "COMPLETED":
        oracle.update_trial(trial.trial_id, {"val_loss": score(trial), SCORE: score(trial)}, step=0)
    oracle.end_trial(kt.engine.trial.Trial(trial.hyperparameters, trial.trial_id, status))
