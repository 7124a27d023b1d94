"""Exchanges the state of trials between machines that share no folder, through the artifact store."""

import os
import tempfile
from pathlib import Path

import mlflow

from keras_dl.tracking.journal import Journal
from keras_dl.training.fit import BEST, DONE, STATE

PATIENCE = 3600.0  # seconds to wait, after a finished trial, for a store that does not answer
FOLDER = "checkpoints"


class Exchange:
    """Stores the files of finished trials and fetches them where they are needed, for the search of run `parent_id`."""

    def __init__(self, experiment_id: str, parent_id: str):
        self.experiment_id, self.parent_id = experiment_id, parent_id

    def put(self, journal: Journal, folder: Path) -> None:
        """Stores the files of a finished training run in its MLflow run."""
        run_id = journal.run_id(PATIENCE)
        for name in (BEST, STATE, DONE):
            if (folder / name).is_file():
                put(run_id, folder / name)

    def fetch(self, trial_id: str, folder: Path) -> None:
        """Downloads the files of a trial and its executions to its folder, unless they already exist."""
        for run in self._children(self.parent_id):
            if run.data.tags.get("trial") != trial_id:
                continue
            self._fetch(run, folder)
            for execution in self._children(run.info.run_id):
                self._fetch(execution, folder / f"execution_{int(execution.data.tags['execution'])}")

    def _fetch(self, run, folder):
        for name in (BEST, STATE, DONE):
            if not (folder / name).is_file():
                fetch(run.info.run_id, name, folder)

    def _children(self, run_id):
        filters = f"tags.mlflow.parentRunId = '{run_id}'"
        return mlflow.search_runs([self.experiment_id], filters, output_format="list")


def put(run_id: str, file: Path) -> None:
    """Stores a file, such as `best.npz`, with a run; replaces a file of the same name."""
    mlflow.MlflowClient().log_artifact(run_id, str(file), FOLDER)


def fetch(run_id: str, name: str, folder: Path) -> Path | None:
    """Downloads a file that `put` stored, atomically; returns None if the run has no file of that name."""
    if name != os.path.basename(name) or name in ("", ".", ".."):
        raise ValueError(f"expected a plain file name. Received: {name!r}")
    client = mlflow.MlflowClient()
    if f"{FOLDER}/{name}" not in [there.path for there in client.list_artifacts(run_id, FOLDER)]:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        found = client.download_artifacts(run_id, f"{FOLDER}/{name}", temporary)
        os.replace(found, folder / name)
    return folder / name
