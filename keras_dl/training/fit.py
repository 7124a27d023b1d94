"""One training, which can be interrupted after any epoch and goes on from there with the same results."""

import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import keras
import keras_tuner as kt
import numpy as np

from keras_dl.data import Splits
from keras_dl.durable import write_json
from keras_dl.errors import UserError
from keras_dl.objective import Objective
from keras_dl.training.state import read_state, restore_callbacks, restore_model, write_state, write_variables

# In the folder of a training.
STATE, BEST, DONE = "state.npz", "best.npz", "done.json"


@dataclasses.dataclass
class Progress:
    """How far a training has come.

    Args:
        rows: the metrics of each epoch, from the one it began with.
        begin: int, the epoch it began with; above 0 where it goes on from another training.
        best: float, the best objective; None before the first.
        best_epoch: int, from 0, of the whole training.
        seconds: float, spent in `fit`, in all processes.
        stopped: bool, whether it ended before its last epoch.
    """

    rows: list[dict] = dataclasses.field(default_factory=list)
    begin: int = 0
    best: float | None = None
    best_epoch: int = 0
    seconds: float = 0.0
    stopped: bool = False

    @property
    def next_epoch(self) -> int:
        return self.begin + len(self.rows)


class ObjectiveGuard(keras.callbacks.Callback):
    """Ends a training that cannot come to anything: its objective is missing, or its loss is no number.

    It comes after the pipeline's own callbacks, which may add metrics to an epoch's.

    Args:
        objective: `Objective`, whose metrics every epoch must report.
        patience: int, epochs in a row that may be no number. Defaults to 0.
    """

    def __init__(self, objective: Objective, patience: int = 0):
        super().__init__()
        self.objective, self.patience, self.bad = objective, patience, 0

    def on_epoch_end(self, epoch, logs=None):
        vectors = [name for name, value in logs.items() if np.ndim(value)]
        if vectors:
            raise UserError(
                f"the metric {vectors[0]!r} is a vector of shape {np.shape(logs[vectors[0]])}; expected one number, as "
                "with average='macro'"
            )
        missing = self.objective.missing(logs)
        if missing:
            raise UserError(f"the objective {missing[0]!r} is not among the metrics: {', '.join(sorted(logs))}")
        watched = [
            name for name in ("loss", *self.objective.directions) if name in logs
        ]  # a train_step may tell no loss
        bad = [name for name in watched if not math.isfinite(logs[name])]
        self.bad = self.bad + 1 if bad else 0
        if self.bad > self.patience:
            raise kt.errors.FailedTrialError(f"{bad[0]} is {logs[bad[0]]} in epoch {epoch + 1}")


class Keeper(keras.callbacks.Callback):
    """After each epoch keeps where the training stands, and the best epoch's variables; the last of the callbacks.

    Args:
        folder: of the training.
        objective: `Objective`, by which an epoch is the best.
        callbacks: those whose state belongs to that of the training.
        progress: `Progress`, brought up to date.
        epochs: int, of the whole training.
        saved: what `read_state` found of the callbacks, `(arrays, scalars)`; None if it begins anew.
        tell: called after every epoch with its number (from 0) and its metrics; returns whether to end the training.
        last: keep the state of the last epoch too, for a training that goes on from it.
        order: `Splits.epoch`, set before each epoch.
    """

    def __init__(self, folder, objective, callbacks, progress, epochs, saved, tell, last, order):
        super().__init__()
        self.order = order
        self.folder, self.objective, self.kept, self.progress = folder, objective, callbacks, progress
        self.epochs, self.saved, self.tell, self.last = epochs, saved, tell, last
        self.spent = progress.seconds

    def on_train_begin(self, logs=None):
        self.began = time.perf_counter()
        if self.saved:
            restore_callbacks(self.kept, *self.saved)

    def on_epoch_begin(self, epoch, logs=None):
        if self.order is not None:
            self.order.assign(epoch)

    def on_epoch_end(self, epoch, logs=None):
        progress = self.progress
        progress.rows.append({name: float(value) for name, value in logs.items()})
        value = self.objective.value(logs)
        better = math.isfinite(value) and (progress.best is None or self.objective.better_than(value, progress.best))
        if better:
            progress.best, progress.best_epoch = value, epoch
            write_variables(self.folder / BEST, self.model)
        progress.seconds = self.spent + time.perf_counter() - self.began
        if self.tell(epoch, logs):
            self.model.stop_training = True
        progress.stopped = self.model.stop_training and epoch + 1 < self.epochs
        if self.last or not (self.model.stop_training or epoch + 1 == self.epochs):
            write_state(self.folder / STATE, self.model, self.kept, dataclasses.asdict(progress))


def fit(
    model: keras.Model,
    splits: Splits,
    folder: Path,
    objective: Objective,
    epochs: int,
    callbacks: list = (),
    watchers: list = (),
    tell: Callable[[int, dict], bool] = lambda epoch, logs: False,
    begin: int = 0,
    origin: Path | None = None,
    last: bool = False,
    nan_patience: int = 0,
    verbose: int = 0,
) -> Progress:
    """Trains a model, going on from the last finished epoch that the folder knows of.

    Each epoch's state is written whole or not at all, so that a training which was killed gives the same numbers as one
    which was not: variables, optimizer, seeds, callbacks, and the order of the data if that depends on `Splits.epoch`,
    as with `batches`. Data shuffled otherwise begin again with the order of their first epoch. A state that is damaged
    or of another model counts as none.

    Args:
        model: compiled and untrained.
        splits: batched.
        folder: of this training; made if missing.
        objective: by which the best epoch's variables are kept, in `best.npz`.
        epochs: int, the number of the last epoch.
        callbacks: Keras callbacks whose state is part of the training's, such as early stopping.
        watchers: further ones, which have none.
        tell: called with each finished epoch and its metrics, those of an earlier process too; True ends the training.
        begin: int, the epoch to begin with. Defaults to 0.
        origin: the folder of a training to go on from where this one has no state yet. Defaults to none.
        last: keep the last state, for another training to go on from. Defaults to False.
        nan_patience: int, see `ObjectiveGuard`. Defaults to 0.
        verbose: of Keras' `fit`. Defaults to 0.

    Raises:
        UserError: if the objective is missing, or a metric is a vector.
        keras_tuner.errors.FailedTrialError: if loss or objective are no number for longer than `nan_patience`.
        OSError: if the state cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    finished = finished_training(folder)
    if finished:
        for number, row in enumerate(finished.rows):
            tell(finished.begin + number, row)
        return finished
    kept = [*callbacks, ObjectiveGuard(objective, nan_patience)]
    own = _resume(folder / STATE, model, kept)
    found = own or (_resume(origin / STATE, model, kept) if origin else None)
    saved = found[0] if found else None
    # Without the state that it should go on from it does those epochs too.
    progress = Progress(**own[1]) if own else Progress(begin=0 if origin and not found else begin)
    for number, row in enumerate(progress.rows):
        tell(progress.begin + number, row)
    keeper = Keeper(folder, objective, kept, progress, epochs, saved, tell, last, splits.epoch)
    model.fit(
        splits.train,
        validation_data=splits.validation,
        epochs=progress.next_epoch if progress.stopped else epochs,
        initial_epoch=progress.next_epoch,
        callbacks=[*kept, *watchers, keeper],
        shuffle=False,  # the data are shuffled already
        verbose=verbose,
    )
    if progress.best is None:
        raise kt.errors.FailedTrialError(f"{objective.name} was no number in any epoch")
    write_json(folder / DONE, dataclasses.asdict(progress))
    if not last:
        (folder / STATE).unlink(missing_ok=True)
    return progress


def _resume(path, model, kept):
    """Gives the model the state in a file: `(state of the callbacks, record)`, or None if it is not one of its own."""
    found = read_state(path)
    if found is None or len(found[2]["callbacks"]) != len(kept):
        return None
    variables, arrays, content = found
    try:
        restore_model(model, variables)
    except ValueError:
        return None
    return (arrays, content["callbacks"]), content["record"]


def finished_training(folder: Path) -> Progress | None:
    """What a training came to that has ended in this folder; None if it has not."""
    try:
        return Progress(**json.loads((folder / DONE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
