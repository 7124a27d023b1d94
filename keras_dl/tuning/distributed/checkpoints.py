"""Stores files of trials in the MLflow artifact store, for workers that share no folder with their chief."""

import os
import tempfile
from pathlib import Path

import mlflow

FOLDER = "checkpoints"


def put(run_id: str, file: Path) -> None:
    """Stores a file, such as `best.npz`, with a run; replaces a file of the same name."""
    mlflow.MlflowClient().log_artifact(run_id, str(file), FOLDER)


def fetch(run_id: str, name: str, folder: Path) -> Path | None:
    """Downloads a file that `put` stored, atomically; returns None if the run has no file of that name.

    Args:
        run_id: str, the run.
        name: str, a plain file name.
        folder: the destination; created if it does not exist.
    """
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
