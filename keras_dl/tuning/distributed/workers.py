"""The workers of a machine, for a chief that is elsewhere. Nothing here needs TensorFlow."""

import re
import shutil
import socket
import sys
from pathlib import Path

from keras_dl.tracking.settings import Settings
from keras_dl.tuning.distributed.address import parse_address
from keras_dl.tuning.distributed.supervisor import Supervisor


def run_workers(address: str, pipeline: Path, settings: Settings, count: int, source: str | None = None) -> None:
    """Runs workers of a chief on another machine, and ends with them.

    Args:
        address: `"HOST:PORT"` of the chief.
        pipeline: the file.
        settings: of this machine's `mlflow.yaml`.
        count: int, workers; they are called `MACHINE-0`, `MACHINE-1` and so on.
        source: what `--data` says on this machine; None (default) takes what it says at the chief's.

    Raises:
        UserError: if none of them could go on, with the reason of the first.
    """
    parse_address(address)
    folder = folder_of(pipeline.stem, address, settings)
    names = [f"{socket.gethostname()}-{index}" for index in range(count)]
    data = ["--data", source] if source else []
    with Supervisor([*worker_command(address, pipeline), *data], names, folder) as supervisor:
        print(f"{', '.join(names)}: what they print lies in {folder}", flush=True)
        supervisor.wait()
    shutil.rmtree(folder)  # all is with the chief and the store


def worker_command(address: str, pipeline: Path) -> list[str]:
    """The command of a worker process, but for its name."""
    return [sys.executable, "-m", "keras_dl.cli", "worker", address, str(pipeline)]


def folder_of(name: str, address: str, settings: Settings) -> Path:
    """Where workers of a chief elsewhere keep what is theirs."""
    return settings.root / "searches" / f"{name}@{re.sub('[^A-Za-z0-9._-]', '_', address)}"
