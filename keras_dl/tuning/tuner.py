"""Keras Tuner with one nested MLflow run a trial."""

import contextlib
import gc
import io
import json
import os
from pathlib import Path

import keras
import keras_tuner as kt
import keras_tuner.src.config as kt_config
import keras_tuner.src.utils as kt_utils
import mlflow

from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline
from keras_dl.tracking.epochs import EpochLogger
from keras_dl.tracking.runs import mark_error, open_run
from keras_dl.tracking.settings import Settings
from keras_dl.training import ObjectiveGuard
from keras_dl.tuning.progress import SearchTable


def write_json(path, content) -> str:
    """Writes a file whole or not at all: a search that is killed meanwhile finds the old one."""
    text, temporary = json.dumps(content), f"{path}.tmp{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    return text


kt_config.DEBUG = False  # it would print every failed trial's traceback, which the trial's run holds, into the table
kt_utils.save_json = write_json  # Keras Tuner writes its state in place, and one torn file loses a search


def run_name(trial) -> str:
    """What MLflow calls a trial: `trial-1` and so on, counted as the table of the search counts."""
    return f"trial-{int(trial.trial_id) + 1}"


class _Model(kt.HyperModel):
    """What Keras Tuner sees of a pipeline."""

    def __init__(self, pipeline, callbacks):
        super().__init__()
        self.pipeline = pipeline
        self.callbacks = callbacks

    def declare_hyperparameters(self, hp):
        self.pipeline.data(hp)  # batch size and the like must be in the space before the first trial

    def build(self, hp):
        return self.pipeline.build(hp)

    def fit(self, hp, model, callbacks, **kwargs):
        splits = self.pipeline.data(hp)
        callbacks = [*callbacks, *self.callbacks(hp)]
        # Not shuffled again: the data are.
        return model.fit(
            splits.train, validation_data=splits.validation, callbacks=callbacks, verbose=0, shuffle=False, **kwargs
        )


class TrialTuner(kt.Tuner):
    """Runs the trials of an oracle; each is an MLflow run under the active one, failed ones too.

    Args:
        pipeline: `Pipeline`.
        oracle: from `make_oracle`.
        settings: of `mlflow.yaml`.
        directory: folder of the search's state; a search that was stopped goes on from there.
        table: `SearchTable`, told of every epoch and trial.
    """

    def __init__(self, pipeline: Pipeline, oracle, settings: Settings, directory: Path, table: SearchTable):
        self.pipeline, self.settings, self.table = pipeline, settings, table
        # Keras Tuner sweeps the garbage before every build: what is there now need not be looked at again.
        gc.collect()
        gc.freeze()
        with contextlib.redirect_stdout(io.StringIO()):  # "Reloading Tuner from ..."
            super().__init__(oracle, _Model(pipeline, self._callbacks), directory=directory, project_name="trials")
        self.save()  # without it a search that is killed in its first trial would not be found again

    def _callbacks(self, hp):
        # Made here and not given to `search`, which would deep-copy them.
        guard = ObjectiveGuard(self.pipeline.objective)
        return [guard, EpochLogger(self._run_id), self.table.callback()]

    def _build_hypermodel(self, hp):
        number = len(self.oracle.trials)
        keras.utils.set_random_seed(self.pipeline.seed + number)
        model = super()._build_hypermodel(hp)
        if (
            "tuner/trial_id" in hp.values
        ):  # promoted by Hyperband: goes on from its checkpoint, slots and step count too
            model.optimizer.build(model.trainable_variables)
            model.load_weights(self._get_checkpoint_fname(hp.values["tuner/trial_id"]))
        return model

    def run_trial(self, trial):
        values = trial.hyperparameters.values
        epochs = {"epochs": values.get("tuner/epochs", self.pipeline.epochs)}
        epochs["initial_epoch"] = values.get("tuner/initial_epoch", 0)
        record = Path(self.get_trial_dir(trial.trial_id), "run")
        if record.exists():  # of a trial that was stopped: it is run again, from its beginning
            with contextlib.suppress(mlflow.MlflowException):
                mlflow.delete_run(record.read_text())
        tags = {"kind": "trial", "trial": trial.trial_id, "seed": str(self.pipeline.seed)}
        with open_run(self.settings, run_name(trial), tags) as run:
            self._run_id = run.info.run_id
            record.write_text(self._run_id)
            try:
                return super().run_trial(trial, callbacks=[], **epochs)
            except (UserError, kt.errors.FatalError) as error:
                raise kt.errors.FatalError(str(error)) from error  # the same in every trial: end the search
            finally:
                # Now, for some are first asked for in `build`. A store that is gone must not hide the trial's error.
                with contextlib.suppress(mlflow.MlflowException):
                    mlflow.log_params(values)

    def curve(self, trial) -> list[float]:
        """The objective of a trial, epoch by epoch, whichever process ran it."""
        run_id = Path(self.get_trial_dir(trial.trial_id), "run").read_text()
        points = mlflow.MlflowClient().get_metric_history(run_id, self.pipeline.objective)
        return [point.value for point in sorted(points, key=lambda point: point.step)]

    def load_model(self, trial):
        model = self._try_build(trial.hyperparameters)
        model.optimizer.build(model.trainable_variables)  # the checkpoint holds its variables too
        model.load_weights(self._get_checkpoint_fname(trial.trial_id))
        return model

    def on_trial_begin(self, trial):
        super().on_trial_begin(trial)
        self.table.begin(trial)

    def on_trial_end(self, trial):
        super().on_trial_end(trial)  # here the oracle decides what became of it
        trial = self.oracle.get_trial(trial.trial_id)
        client, run_id = mlflow.MlflowClient(), Path(self.get_trial_dir(trial.trial_id), "run").read_text()
        if trial.status == "COMPLETED":
            client.log_metric(run_id, f"best_{self.pipeline.objective}", trial.score)
            client.set_tag(run_id, "best_epoch", str(trial.best_step + 1))
        else:
            message = (trial.message or f"{self.pipeline.objective} is {trial.score}").strip()
            mark_error(run_id, message.splitlines()[-1], message)
            client.set_terminated(run_id, "FAILED")
        self.table.end(trial)
