"""Runs the trials of a search; each is trained, tracked and saved after every epoch."""

import contextlib
import gc
import io
import statistics
import time
import traceback
from pathlib import Path

import keras_tuner as kt

from keras_dl.compat.keras_tuner import BaseTuner, without_chief
from keras_dl.durable import exhausted
from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline
from keras_dl.tracking.epochs import EpochLogger
from keras_dl.tracking.journal import Delivery, Journal
from keras_dl.training.configuration import best_model, train_configuration
from keras_dl.training.fit import BEST, STATE, Progress, finished_training
from keras_dl.training.reuse import CompiledModels
from keras_dl.training.shared_data import SharedData
from keras_dl.tuning.results import SCORE, SECONDS, SPREAD, STOPPED

# Errors that end the search: every other trial would fail in the same way.
_FATAL = (UserError, kt.errors.FatalError)


def run_name(trial_id: str) -> str:
    """Returns the name of a trial's MLflow run: `trial-1` and so on, numbered as in the table of the search."""
    return f"trial-{int(trial_id) + 1}"


class _Model(kt.HyperModel):
    """Adapts a pipeline for Keras Tuner, which calls it to find the space."""

    def __init__(self, pipeline):
        super().__init__()
        self.pipeline = pipeline

    def declare_hyperparameters(self, hp):
        self.pipeline.data(hp)  # the batch size etc. must be in the space before the first trial

    def build(self, hp):
        return self.pipeline.build(hp)


class TrialTuner(BaseTuner):
    """Runs trials until the oracle has no more.

    Each trial, failed or not, is a child run of the search's MLflow run.

    Args:
        pipeline: the pipeline.
        oracle: from `make_oracle`; its state in `folder`, if there is one, is restored.
        folder: folder of the search's state.
        delivery: writes the records of the trials to the store.
        parent_id: the run of the search.
        executions: training runs per trial. Defaults to 1.
        name: the name of this process in the oracle. Defaults to `"tuner0"`.
        remote: whether the oracle is a chief's, which saves its state. Defaults to False.
        exchange: for state that is stored on another machine; None (default) if all of it is in `folder`.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        oracle: kt.Oracle,
        folder: Path,
        delivery: Delivery,
        parent_id: str,
        executions: int = 1,
        name: str = "tuner0",
        remote: bool = False,
        exchange=None,
    ):
        self.pipeline, self.folder, self.delivery, self.parent_id = pipeline, folder, delivery, parent_id
        self.executions, self.remote, self.exchange = executions, remote, exchange
        self.models, self.data = CompiledModels(), SharedData(pipeline)
        self.idle = False
        # Later garbage collections skip the objects that exist now.
        gc.collect()
        gc.freeze()
        with without_chief(), contextlib.redirect_stdout(io.StringIO()):  # "Reloading Tuner from ..."
            super().__init__(oracle, _Model(pipeline), directory=folder.parent, project_name=folder.name)
        self.tuner_id = name
        if not remote:
            self.oracle.save()  # otherwise a search killed in its first trial could not be resumed

    def search(self):
        with without_chief():
            super().search()

    def _get_tuner_fname(self):
        # The oracle's file is the only one: the tuner has no state. Workers do not read the file of their chief.
        return self.folder / "none" if self.remote else self.oracle._get_oracle_fname()

    def reload(self):
        self.oracle.reload()

    def save(self):
        """Does nothing: the oracle saves itself after every event."""

    def _populate_initial_space(self):
        if not self.remote:  # otherwise the chief has done it
            super()._populate_initial_space()

    def pre_create_trial(self):
        if self.idle:
            time.sleep(0.2)  # the oracle waits for trials of other workers
        self.idle = True

    def on_trial_begin(self, trial):
        self.idle = False

    def on_trial_end(self, trial):
        self.oracle.end_trial(trial)

    def trial_folder(self, trial_id: str) -> Path:
        """Returns the folder of a trial's state."""
        return self.folder / f"trial_{trial_id}"

    def _run_and_update_trial(self, trial):
        self.run_trial(trial)

    def run_trial(self, trial):
        values, folder = trial.hyperparameters.values, self.trial_folder(trial.trial_id)
        tags = {"kind": "trial", "trial": trial.trial_id, "worker": self.tuner_id}
        tags["pipeline_digest"] = self.pipeline.digest  # that of the search's run changes when it is resumed
        journal = Journal(self.delivery, folder, run_name(trial.trial_id), tags, self.parent_id)
        journal.params(values)
        try:
            executions, self.stopped_early = [], False
            while len(executions) < self.executions and not self.stopped_early:
                executions.append(self._execute(trial, folder, journal, len(executions)))
            if self.remote and self.oracle.lost:
                return  # the chief has given the trial to another worker, whose results count
            self._report(trial, executions, journal)
        except KeyboardInterrupt:
            journal.end("KILLED")
            raise
        except Exception as error:
            if not folder.is_dir():  # not an error of the trial
                raise kt.errors.FatalError(f"the state of the search was deleted from {self.folder}") from error
            why = exhausted(error)
            if why:
                with contextlib.suppress(OSError):  # the disk may still be full; the next process closes the run
                    journal.end("KILLED")
                raise kt.errors.FatalError(
                    f"{why}: {error.filename or folder}. Every finished trial is kept"
                ) from error
            journal.params(values)  # `build` may have requested more
            journal.error(f"{type(error).__name__}: {error}", traceback.format_exc())
            journal.end("FAILED")
            if isinstance(error, _FATAL):
                raise kt.errors.FatalError(str(error)) from error
            raise

    def _execute(self, trial, folder, journal, number) -> Progress:
        """Runs one execution of a trial; each epoch is reported to the oracle, with the objective in the first one."""
        values, objective = trial.hyperparameters.values, self.pipeline.goal
        single = self.executions == 1
        if not single:
            folder = folder / f"execution_{number}"
            tags = {"kind": "execution", "execution": str(number)}
            journal = Journal(self.delivery, folder, f"execution-{number + 1}", tags, journal)

        def report_epoch(epoch, logs):
            metrics = {} if number else {objective.name: objective.value(logs)}
            self.stopped_early = self.oracle.update_trial(trial.trial_id, metrics, step=epoch).status == "STOPPED"
            return self.stopped_early

        parent = values.get("tuner/trial_id")  # promoted by Hyperband: continues this trial
        origin = self.trial_folder(parent) if parent else None
        if origin and self.exchange:
            self.exchange.fetch(parent, origin)
        progress = train_configuration(
            self.pipeline,
            trial.hyperparameters,
            folder,
            self.models,
            self.data,
            execution=number,
            epochs=values.get("tuner/epochs", self.pipeline.epochs),
            begin=values.get("tuner/initial_epoch", 0),
            origin=origin,
            last="tuner/epochs" in values,
            logger=EpochLogger(journal),
            report=report_epoch,
        )
        if self.exchange:
            self.exchange.put(journal, folder)
        if not single:
            journal.metrics(_own({f"best_{objective.name}": progress.best}, progress), progress.best_epoch)
            journal.end("FINISHED")
        return progress

    def _report(self, trial, executions, journal):
        """Reports the result of a trial to the oracle and logs it to the run."""
        objective, scores = self.pipeline.goal, [execution.best for execution in executions]
        best = _best(objective, executions)
        result = {SCORE: statistics.fmean(scores), SECONDS: sum(execution.seconds for execution in executions)}
        if self.stopped_early:
            result[STOPPED] = 1.0
        if len(executions) > 1:
            result[SPREAD] = statistics.stdev(scores)
        others = {
            name: value
            for name, value in best.rows[best.best_epoch - best.begin].items()
            if name != objective.name  # already reported, for each epoch of the first execution
        }
        self.oracle.update_trial(trial.trial_id, {**others, **result}, step=best.best_epoch)
        summary = {f"best_{objective.name}": result[SCORE], "seconds": result[SECONDS]}
        if SPREAD in result:
            summary[f"spread_{objective.name}"] = result[SPREAD]
        journal.params(trial.hyperparameters.values)
        # The metrics of several executions are in separate runs.
        journal.metrics(_own(summary, best) if len(executions) == 1 else summary, best.best_epoch)
        journal.tags({"best_epoch": str(best.best_epoch + 1), "stopped_early": str(best.stopped).lower()})
        journal.end("FINISHED")

    def best_execution(self, trial_id: str) -> tuple[Path, int]:
        """Returns the folder and number of a trial's training run with the best model."""
        folder = self.trial_folder(trial_id)
        if self.executions == 1:
            return folder, 0
        executions = [finished_training(folder / f"execution_{number}") for number in range(self.executions)]
        # A trial that was stopped early has fewer.
        number = executions.index(_best(self.pipeline.goal, [one for one in executions if one]))
        return folder / f"execution_{number}", number

    def load_model(self, trial):
        """Returns the model of a trial's best epoch."""
        folder, number = self.best_execution(trial.trial_id)
        return best_model(self.pipeline, trial.hyperparameters, folder, number)


def discard_checkpoints(folder: Path, keep: set[str]) -> None:
    """Removes the saved models and states of all trials except those in `keep`."""
    for trial in folder.glob("trial_*"):
        if trial.name.removeprefix("trial_") not in keep:
            for name in (BEST, STATE):
                for file in trial.rglob(name):
                    file.unlink(missing_ok=True)


def _own(summary, progress):
    """Returns a summary without names that the metrics of the model have."""
    return {name: value for name, value in summary.items() if name not in progress.rows[0]}


def _best(objective, executions):
    best = executions[0]
    for execution in executions[1:]:
        if objective.better_than(execution.best, best.best):
            best = execution
    return best
