"""Runs the workers of a machine for a chief on another machine, without importing TensorFlow."""

import re
import shutil
import socket
import sys
from pathlib import Path

from keras_dl.tracking.settings import Settings
from keras_dl.tuning.distributed.address import parse_address
from keras_dl.tuning.distributed.supervisor import Supervisor


def run_workers(address: str, pipeline: Path, settings: Settings, count: int, source: str | None = None) -> None:
    """Runs workers of a chief on another machine, and returns when they have ended.

    Args:
        address: `"HOST:PORT"` of the chief.
        pipeline: path of the pipeline's file.
        settings: the settings in this machine's `mlflow.yaml`.
        count: int, number of workers; their names are `MACHINE-0`, `MACHINE-1` and so on.
        source: value of `--data` on this machine; None (default) uses the chief's.

    Raises:
        UserError: if all of them were abandoned, with the reason of the first.
    """
    parse_address(address)
    folder = folder_of(pipeline.stem, address, settings)
    names = [f"{socket.gethostname()}-{index}" for index in range(count)]
    data = ["--data", source] if source else []
    with Supervisor([*worker_command(address, pipeline), *data], names, folder) as supervisor:
        print(f"{', '.join(names)}: their output is in {folder}", flush=True)
        supervisor.wait()
    shutil.rmtree(folder)  # the results are at the chief and in the store


def worker_command(address: str, pipeline: Path) -> list[str]:
    """Returns the command of a worker process, without its name."""
    return [sys.executable, "-m", "keras_dl.cli", "worker", address, str(pipeline)]


def folder_of(name: str, address: str, settings: Settings) -> Path:
    """Returns the folder in which workers of a chief on another machine store their state."""
    return settings.root / "searches" / f"{name}@{re.sub('[^A-Za-z0-9._-]', '_', address)}"
