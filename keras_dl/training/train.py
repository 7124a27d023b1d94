"""Trains a pipeline with one set of values, tracked, resumable and published."""

import contextlib
import dataclasses
import json
import sys

import keras_tuner as kt
import mlflow

from keras_dl.durable import remove_folder, write_json
from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline
from keras_dl.release.registry import Registered
from keras_dl.tracking.epochs import EpochLogger
from keras_dl.tracking.figures import learning_curves, log_pictures
from keras_dl.tracking.journal import Delivery, Journal
from keras_dl.tracking.names import with_mlflow_names
from keras_dl.tracking.runs import close_abandoned, log_origin, open_run, reap
from keras_dl.tracking.settings import Settings
from keras_dl.training.configuration import best_model, train_configuration
from keras_dl.training.fit import finished_training
from keras_dl.training.job import check_delivered, check_space, exclusive_job, release
from keras_dl.training.reuse import CompiledModels
from keras_dl.training.shared_data import SharedData
from keras_dl.training.user_code import pointing_to_build


def train(
    pipeline: Pipeline, values: dict, settings: Settings, fresh: bool = False, keep: int | None = None
) -> Registered:
    """Trains with the defaults, or the given values in their place, and publishes the model of the best epoch.

    The state is stored in `searches/<name>.training/` until the model is registered and exported. If the process is
    stopped, the same call resumes after the last finished epoch, in the same run. A call with different arguments, or
    with `fresh`, starts over; but if training has ended and only the pipeline's file has changed, for example because
    its `report` failed, the trained model is published. `keep` is the number of exports to keep besides the champion's;
    None (default) keeps all.

    Raises:
        UserError: before training, for values outside the space, an empty split, a store, registry or folder that
            cannot be written, or another training run of this pipeline at the same time; later, if the objective is
            missing, the loss is NaN or the disk is full.
    """
    folder = settings.root / "searches" / f"{pipeline.name}.training"
    with exclusive_job(pipeline, settings, folder, "training run", "epoch"):
        hp = check_space(pipeline, values)
        arguments = {"values": hp.values, "pipeline": pipeline.digest}
        arguments |= dataclasses.asdict(pipeline.training_options)
        earlier = _unfinished(folder, arguments, fresh)
        goal = pipeline.goal
        tags = {"kind": "train", "objective": goal.name, "direction": goal.direction}
        with open_run(settings, "train", tags, earlier) as run:
            reap(run.info.experiment_id, but={run.info.run_id})
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "training.json", {"arguments": arguments, "run_id": run.info.run_id})
            log_origin(pipeline)
            mlflow.log_params(with_mlflow_names({"epochs": pipeline.epochs, **hp.values}))
            progress = _fit(pipeline, hp, settings, folder, run)
            curve = [goal.value(row) for row in progress.rows]
            log_pictures({"learning_curve": learning_curves({"": curve}, pipeline.objective)})
            mlflow.log_metrics(with_mlflow_names({f"best_{goal.name}": progress.best}))
            mlflow.set_tag("best_epoch", progress.best_epoch + 1)
            return release(pipeline, _best_model(pipeline, hp, folder), hp.values, settings, folder, keep)


def _fit(pipeline, hp, settings, folder, run):
    try:
        with pointing_to_build(pipeline), Delivery(settings, run.info.experiment_id) as delivery:
            journal = Journal.of_run(delivery, folder, run.info.run_id)
            progress = train_configuration(
                pipeline,
                hp,
                folder,
                CompiledModels(),
                SharedData(pipeline),
                logger=EpochLogger(journal),
                verbose=1 if sys.stdout.isatty() else 2,
            )
    except kt.errors.FailedTrialError as error:
        remove_folder(folder)
        raise UserError(f"training failed: {error}") from error
    check_delivered(delivery, settings, "Training is")
    return progress


def _best_model(pipeline, hp, folder):
    try:
        return best_model(pipeline, hp, folder)
    except ValueError as error:  # only if the file has changed since
        raise UserError(
            f"the trained model of {pipeline.name} differs in structure from the one that the pipeline's file builds "
            "now: restore the file, or use --fresh"
        ) from error


def _unfinished(folder, arguments, fresh):
    """Returns the run of an interrupted call with the same arguments; None, after removing its state, otherwise."""
    earlier = {}
    with contextlib.suppress(OSError, ValueError):
        earlier = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    arguments = json.loads(json.dumps(arguments))
    was = earlier.get("arguments", {})
    if was == arguments and not fresh:
        print("resuming an interrupted training run; --fresh starts over")
        return earlier["run_id"]
    if was | {"pipeline": arguments["pipeline"]} == arguments and finished_training(folder) and not fresh:
        print(
            "the pipeline's file has changed since its model was trained, which is published now; --fresh trains again"
        )
        return earlier["run_id"]
    if "run_id" in earlier:
        close_abandoned(earlier["run_id"])
        if not fresh:
            print(f"starting over: the interrupted training run had {_differences(was, arguments)}")
    remove_folder(folder)
    return None


def _differences(earlier, arguments):
    """Returns the changed arguments as text."""
    was, now = ({**each["values"], **each} for each in (earlier, arguments))
    changed = [name for name in (*was, *(now.keys() - was)) if name != "values" and was.get(name) != now.get(name)]
    shown = [f"{name}={was[name]}" for name in changed if name in was and name != "pipeline"]
    return ", ".join([*shown, *(["another pipeline file"] if "pipeline" in changed else [])]) or "other arguments"
