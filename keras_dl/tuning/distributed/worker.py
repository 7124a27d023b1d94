"""What a worker process does: the trials of a chief, one after the other."""

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
from keras_dl.tracking.runs import connect
from keras_dl.tracking.settings import Settings
from keras_dl.tracking.system_metrics import measure
from keras_dl.tuning.distributed.client import ChiefClient
from keras_dl.tuning.distributed.exchange import Exchange
from keras_dl.tuning.distributed.lifeline import tell_begun
from keras_dl.tuning.distributed.protocol import identity
from keras_dl.tuning.distributed.workers import folder_of
from keras_dl.tuning.tuner import TrialTuner


def work(pipeline: Pipeline, address: str, settings: Settings, name: str, source: str | None = None) -> None:
    """Runs trials of the chief at an address until there are none left.

    Args:
        pipeline: the same file as the chief's.
        address: `"HOST:PORT"` of the chief.
        settings: of this machine's `mlflow.yaml`; its store is the chief's.
        name: str, of this worker.
        source: what `--data` says on this machine; None (default) takes what it says at the chief's.

    Raises:
        UserError: before any trial, for another version, pipeline or store than the chief's.
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
    """Runs trials of a chief until there are none left.

    Args:
        pipeline: the same as the chief's, with its options.
        settings: of this machine.
        client: `ChiefClient`.
        folder: of the search's state: the chief's, or a folder of this machine.
        facts: the chief's description of the search.
    """
    connect(settings, pipeline.name)
    run_id, experiment_id = facts["run_id"], mlflow.get_run(facts["run_id"]).info.experiment_id
    exchange = None if is_shared(folder, facts["search"]) else Exchange(experiment_id, run_id)
    with Delivery(settings, experiment_id) as delivery, measure(run_id, settings, client.name):
        if exchange:
            delivery.adopt(folder, run_id)  # of an earlier worker with this folder; a chief does so itself
        executions = facts["arguments"]["executions"]
        TrialTuner(pipeline, client, folder, delivery, run_id, executions, client.name, True, exchange).search()


def adopt(pipeline: Pipeline, arguments: dict, source: str | None = None) -> None:
    """Gives a pipeline the options that the chief's has."""
    options = {name: arguments[name] for name in TrainingOptions.names() if name != "source"}
    pipeline.set_training_options(**options, source=source or arguments["data"])
    pipeline.trials = arguments["trials"]


def state_folder(pipeline: Pipeline, address: str, settings: Settings, search: str) -> Path:
    """Where this worker keeps the state of its trials: the chief's folder if it is seen from here, else one of its own.

    Args:
        pipeline: `Pipeline`.
        address: of the chief.
        settings: of this machine.
        search: str, the search's id.
    """
    if not re.fullmatch("[0-9A-Za-z-]+", search):  # it will name a folder here
        raise UserError(f"expected a search's id from the chief. Received: {search!r}")
    chiefs = settings.root / "searches" / pipeline.name
    return chiefs if is_shared(chiefs, search) else folder_of(pipeline.name, address, settings) / search


def is_shared(folder: Path, search: str) -> bool:
    """Whether a folder is the one that the chief of a search keeps its state in."""
    try:
        return json.loads((folder / "search.json").read_text(encoding="utf-8"))["search"] == search
    except (OSError, ValueError, KeyError, TypeError):
        return False


def check_store(settings: Settings, run_id: str) -> None:
    """Raises UserError if the run of the search is not in this machine's store. One that does not answer may yet."""
    try:
        mlflow.MlflowClient(settings.tracking_uri).get_run(run_id)
    except mlflow.MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise UserError(
                f"the run of the search is not in {settings.tracking_uri}: let tracking: uri: in mlflow.yaml name the "
                "store that the chief uses, a server or a database that both can reach"
            ) from None
