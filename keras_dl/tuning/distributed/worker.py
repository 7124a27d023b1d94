"""Runs the trials of a chief in a worker process."""

import json
import os
import re
from pathlib import Path

import keras_tuner as kt
import mlflow

from keras_dl.errors import UserError
from keras_dl.options import TrainingOptions
from keras_dl.pipeline import Pipeline
from keras_dl.tracking.journal import Delivery
from keras_dl.tracking.runs import connect, measure
from keras_dl.tracking.settings import Settings
from keras_dl.tuning.distributed.client import ChiefClient
from keras_dl.tuning.distributed.exchange import Exchange
from keras_dl.tuning.distributed.protocol import identity
from keras_dl.tuning.distributed.supervisor import tell_begun
from keras_dl.tuning.distributed.workers import folder_of
from keras_dl.tuning.tuner import TrialTuner


def work(pipeline: Pipeline, address: str, settings: Settings, name: str, source: str | None = None) -> None:
    """Runs trials of the chief at an address, `"HOST:PORT"`, until none are left.

    `source` is the value of `--data` on this machine; None (default) uses the chief's. UserError is raised before any
    trial if versions, pipeline or store differ from the chief's.
    """
    died = json.loads(os.environ.get("KERAS_DL_DIED", "null"))
    with ChiefClient(address, name, identity(pipeline), died, tell_begun) as client:
        facts = client.facts
        adopt(pipeline, facts["arguments"], source)
        folder = state_folder(pipeline, address, settings, facts["search"])
        check_store(settings, facts["run_id"])
        try:
            run_worker(pipeline, settings, client, folder, facts)
        except kt.errors.FatalError as error:
            cause = error.__cause__
            raise cause if isinstance(cause, UserError) else UserError(str(error)) from error


def run_worker(pipeline: Pipeline, settings: Settings, client: ChiefClient, folder: Path, facts: dict) -> None:
    """Runs trials of a chief until none are left; `facts` is its description of the search."""
    connect(settings, pipeline.name)
    run_id, experiment_id = facts["run_id"], mlflow.get_run(facts["run_id"]).info.experiment_id
    exchange = None if is_shared(folder, facts["search"]) else Exchange(experiment_id, run_id)
    with Delivery(settings, experiment_id) as delivery, measure(run_id, settings, client.name):
        if exchange:
            delivery.adopt(folder, run_id)  # records of an earlier worker; a chief adopts its own folder
        executions = facts["arguments"]["executions"]
        TrialTuner(pipeline, client, folder, delivery, run_id, executions, client.name, True, exchange).search()


def adopt(pipeline: Pipeline, arguments: dict, source: str | None = None) -> None:
    """Sets the options of a pipeline to those of the chief."""
    options = {name: arguments[name] for name in TrainingOptions.names() if name != "source"}
    pipeline.set_training_options(**options, source=source or arguments["data"])
    pipeline.trials = arguments["trials"]


def state_folder(pipeline: Pipeline, address: str, settings: Settings, search: str) -> Path:
    """Returns the folder for the state of this worker's trials: the chief's if it is shared, else a separate one."""
    if not re.fullmatch("[0-9A-Za-z-]+", search):  # it becomes the name of a folder
        raise UserError(f"expected a search's id from the chief. Received: {search!r}")
    chiefs = settings.root / "searches" / pipeline.name
    return chiefs if is_shared(chiefs, search) else folder_of(pipeline.name, address, settings) / search


def is_shared(folder: Path, search: str) -> bool:
    """Returns whether a folder is the one in which the chief of a search stores its state."""
    try:
        return json.loads((folder / "search.json").read_text(encoding="utf-8"))["search"] == search
    except (OSError, ValueError, KeyError, TypeError):
        return False


def check_store(settings: Settings, run_id: str) -> None:
    """Raises UserError if the run of the search is not in this machine's store; it may not answer at the moment."""
    try:
        mlflow.MlflowClient(settings.tracking_uri).get_run(run_id)
    except mlflow.MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise UserError(
                f"the run of the search is not in {settings.tracking_uri}: set tracking: uri: in mlflow.yaml to the "
                "store of the chief, a server or a database that both can reach"
            ) from None
