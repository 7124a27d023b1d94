"""One training run, which can be interrupted at any time and resumes with the same results."""

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
from keras_dl.options import Objective
from keras_dl.training.state import read_state, restore_callbacks, restore_model, write_state, write_variables

# Files in the folder of a training run.
STATE, BEST, DONE = "state.npz", "best.npz", "done.json"


@dataclasses.dataclass
class Progress:
    """The progress of a training run.

    Args:
        rows: the metrics of each epoch.
        begin: the first epoch; above 0 for a training run that continues another one.
        best: the best objective; None before the first epoch.
        best_epoch: the epoch of the best objective, from 0.
        seconds: the time spent in `fit`, in all processes.
        stopped: whether training ended before the last epoch.
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
    """Stops a training run that cannot succeed: the objective is missing, or the loss is NaN or infinite.

    It runs after the pipeline's callbacks, which may add metrics. `patience` consecutive epochs may be NaN or infinite.
    """

    def __init__(self, objective: Objective, patience: int = 0):
        super().__init__()
        self.objective, self.patience, self.bad = objective, patience, 0

    def check_names(self, logs):
        """Raises UserError if the objective is not among these metrics."""
        missing = self.objective.missing(logs)
        if missing:
            raise UserError(f"the objective {missing[0]!r} is not among the metrics: {', '.join(sorted(logs))}")

    def on_epoch_end(self, epoch, logs=None):
        vectors = [name for name, value in logs.items() if np.ndim(value)]
        if vectors:
            raise UserError(
                f"expected metrics that are single numbers, as with average='macro'. Received: {vectors[0]!r} of shape "
                f"{np.shape(logs[vectors[0]])}"
            )
        self.check_names(logs)
        # A custom train_step may report no loss.
        watched = [name for name in ("loss", *self.objective.directions) if name in logs]
        bad = [name for name in watched if not math.isfinite(logs[name])]
        self.bad = self.bad + 1 if bad else 0
        if self.bad > self.patience:
            raise kt.errors.FailedTrialError(f"{bad[0]} is {logs[bad[0]]} in epoch {epoch + 1}")


class StateSaver(keras.callbacks.Callback):
    """Saves the state of training after each epoch, and the variables of the best epoch; must be the last callback.

    Args:
        folder, objective, epochs, report, last: as in `fit`.
        callbacks: those whose state is saved too.
        progress: `Progress`, which is updated.
        saved: the state of the callbacks from `read_state`, `(arrays, scalars)`; None for a new training run.
        order: `Splits.epoch`, set before each epoch; None if the order of the data does not depend on it.
    """

    def __init__(self, folder, objective, callbacks, progress, epochs, saved, report, last, order):
        super().__init__()
        self.order = order
        self.folder, self.objective, self.kept, self.progress = folder, objective, callbacks, progress
        self.epochs, self.saved, self.report, self.last = epochs, saved, report, last
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
        if self.report(epoch, logs):
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
    report: Callable[[int, dict], bool] = lambda epoch, logs: False,
    begin: int = 0,
    origin: Path | None = None,
    last: bool = False,
    nan_patience: int = 0,
    verbose: int = 0,
) -> Progress:
    """Trains a model, resuming after the last finished epoch whose state is in the folder.

    The state of each epoch is written atomically: variables, optimizer, seeds, callbacks, and the order of the data if
    it depends on `Splits.epoch`, as with `batches`. A training run that was killed therefore gives the same numbers as
    one that was not. Data shuffled in any other way start again with the order of the first epoch. A damaged state, or
    the state of another model, is ignored.

    Args:
        model: compiled and untrained.
        splits: `Splits` of batches.
        folder: the folder of this training run; created if it does not exist.
        objective: the variables of its best epoch are saved in `best.npz`.
        epochs: the number of the last epoch.
        callbacks: Keras callbacks whose state is saved too, such as early stopping.
        watchers: further Keras callbacks, without state.
        report: called with the number and the metrics of each finished epoch, including those of an earlier process; a
            return value of True stops training.
        begin: the first epoch. Defaults to 0.
        origin: the folder of a training run to continue, if this one has no state yet. Defaults to none.
        last: whether to keep the last state, so that another training run can continue this one. Defaults to False.
        nan_patience: see `ObjectiveGuard`. Defaults to 0.
        verbose: verbosity of Keras' `fit`. Defaults to 0.

    Raises:
        UserError: if the objective is missing, or a metric is a vector.
        keras_tuner.errors.FailedTrialError: if the loss or the objective is NaN or infinite for more than
            `nan_patience` epochs.
        OSError: if the state cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    finished = finished_training(folder)
    if finished:
        for number, row in enumerate(finished.rows):
            report(finished.begin + number, row)
        return finished
    kept = [*callbacks, ObjectiveGuard(objective, nan_patience)]
    own = _resume(folder / STATE, model, kept)
    found = own or (_resume(origin / STATE, model, kept) if origin else None)
    saved = found[0] if found else None
    # If the state of `origin` is missing, its epochs are trained here.
    progress = Progress(**own[1]) if own else Progress(begin=0 if origin and not found else begin)
    for number, row in enumerate(progress.rows):
        report(progress.begin + number, row)
    saver = StateSaver(folder, objective, kept, progress, epochs, saved, report, last, splits.epoch)
    model.fit(
        splits.train,
        validation_data=splits.validation,
        epochs=progress.next_epoch if progress.stopped else epochs,
        initial_epoch=progress.next_epoch,
        callbacks=[*kept, *watchers, saver],
        shuffle=False,  # `batches` has shuffled the data
        verbose=verbose,
    )
    if progress.best is None:
        raise kt.errors.FailedTrialError(f"{objective.name} was NaN or infinite in every epoch")
    write_json(folder / DONE, dataclasses.asdict(progress))
    if not last:
        (folder / STATE).unlink(missing_ok=True)
    return progress


def _resume(path, model, kept):
    """Restores the model from a file; returns `(state of the callbacks, record)`, or None if the state does not fit."""
    found = read_state(path)
    if found is None or len(found[2]["callbacks"]) != len(kept):
        return None
    variables, arrays, content = found
    try:
        restore_model(model, variables, content)
    except ValueError:
        return None
    return (arrays, content["callbacks"]), content["record"]


def finished_training(folder: Path) -> Progress | None:
    """Returns the progress of a finished training run in this folder; None if there is none."""
    try:
        return Progress(**json.loads((folder / DONE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
