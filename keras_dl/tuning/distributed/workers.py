"""Runs the workers of a machine for a chief on another machine, without importing TensorFlow."""

import errno
import re
import shutil
import socket
import sys
from pathlib import Path

from keras_dl.errors import UserError
from keras_dl.tracking.settings import Settings
from keras_dl.tuning.distributed.supervisor import Supervisor


def run_workers(address: str, pipeline: Path, settings: Settings, count: int, source: str | None = None) -> None:
    """Runs workers of a chief on another machine, and returns when they have ended.

    Their names are `MACHINE-0`, `MACHINE-1` and so on. `source` is the value of `--data` on this machine; None
    (default) uses the chief's. UserError is raised if all workers were abandoned, with the reason of the first.
    """
    parse_address(address)
    folder = folder_of(pipeline.stem, address, settings)
    names = [f"{socket.gethostname()}-{index}" for index in range(count)]
    data = ["--data", source] if source else []
    with Supervisor([*worker_command(address, pipeline), *data], names, folder) as supervisor:
        print(f"{', '.join(names)}: their output is in {folder}", flush=True)
        supervisor.wait()
    shutil.rmtree(folder)  # the chief and the store have the results


def worker_command(address: str, pipeline: Path) -> list[str]:
    """Returns the command of a worker process, without its name."""
    return [sys.executable, "-m", "keras_dl.cli", "worker", address, str(pipeline)]


def folder_of(name: str, address: str, settings: Settings) -> Path:
    """Returns the folder in which workers of a chief on another machine store their state."""
    return settings.root / "searches" / f"{name}@{re.sub('[^A-Za-z0-9._-]', '_', address)}"


def parse_address(text: str) -> tuple[str, int]:
    """Splits `"HOST:PORT"` into host and port; an IPv6 host is in brackets. UserError for any other text."""
    found = re.fullmatch(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})", text)
    if not found or not 0 < int(found[2]) < 2**16:
        raise UserError(f"expected HOST:PORT, such as 192.168.0.2:9000. Received: {text}")
    return found[1], int(found[2])


def check_free(host: str, port: int) -> None:
    """Checks that a chief can listen on an address, before a search is created.

    Raises UserError if the port is taken or not permitted, or the host is not an address of this machine.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        refused = [error for family, *_, where in found if (error := _refusal(family, where))]
    except OSError as error:  # an unknown name
        found, refused = [], [error]
    # One of several addresses of a name is enough, unless another process listens on one of the others.
    if len(refused) == len(found) or any(error.errno == errno.EADDRINUSE for error in refused) or not found:
        raise UserError(f"cannot listen on {host}:{port}: {refused[0].strerror}")


def _refusal(family, where):
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # allows a port whose process has just ended
            probe.bind(where)
    except OSError as error:
        return error
    return None
