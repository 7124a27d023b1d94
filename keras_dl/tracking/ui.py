"""The MLflow UI on the configured store."""

import os
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from urllib.parse import urljoin
from urllib.request import urlopen

import mlflow

from keras_dl.errors import UserError
from keras_dl.tracking.runs import connect
from keras_dl.tracking.settings import Settings
from keras_dl.tracking.views import page


def ui(
    settings: Settings,
    host: str | None = None,
    port: int | None = None,
    name: str | None = None,
    open_browser: bool = False,
) -> int:
    """Prints the URLs of the experiments and runs MLflow's server on the store until it is stopped.

    No server is started if the store is a tracking server, which already has a UI.

    Args:
        settings: the `Settings` of the project.
        host: str, the address to listen on. Defaults to that of `mlflow.yaml`, 127.0.0.1.
        port: int. Defaults to that of `mlflow.yaml`, 5000.
        name: str, the only experiment to print. None (default) prints all, the most recently updated first.
        open_browser: bool, whether to open the first URL in a browser. Defaults to False.

    Returns:
        int, the exit status of the server.

    Raises:
        UserError: if the port is in use or the experiment does not exist.
    """
    host, port = host or settings.ui.host, port or settings.ui.port
    uri = settings.tracking_uri
    is_server = uri.startswith(("http://", "https://"))
    if not is_server:
        _check_port(host, port)
    connect(settings)  # creates a missing store: the page then shows an empty list instead of an error
    address = uri.rstrip("/") if is_server else f"http://{host}:{port}"
    experiments = _experiments(name)
    print(f"the MLflow UI is part of the tracking server: {uri}" if is_server else f"MLflow UI of {uri}")
    pages = [f"{address}/{page(experiment)}" for experiment in experiments]
    for experiment, shown in zip(experiments, pages, strict=True):
        print(f"  {experiment.name:20} {shown}")
    print(f"  {'all':20} {address}", flush=True)
    first = [*pages, address][0]
    if is_server:
        if open_browser:
            webbrowser.open(first)
        return 0
    return _serve(settings, host, port, first if open_browser else None)


def _experiments(name):
    there = mlflow.search_experiments(order_by=["last_update_time DESC"])
    experiments = [each for each in there if (each.name == name if name else each.name != "Default")]
    if name and not experiments:
        names = ", ".join(each.name for each in there if each.name != "Default")
        raise UserError(f"no experiment {name!r} in the store. Available: {names or 'none'}")
    return experiments


def _check_port(host, port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"cannot listen on {host}:{port} ({error.strerror}): choose another --port") from error


def _serve(settings, host, port, opened):
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", settings.tracking_uri]
    command += ["--default-artifact-root", settings.artifact_location or ""]
    # MLflow's job workers, needed only for its language model features, take eight processes and 2 GB.
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(command, env={**os.environ, **quiet})
    if opened:
        threading.Thread(target=_open, args=(server, opened), daemon=True).start()
    try:
        return server.wait()
    except KeyboardInterrupt:
        server.terminate()
        server.wait()
        return 0


def _open(server, address):
    """Opens a page as soon as the server responds."""
    while server.poll() is None:
        try:
            urlopen(urljoin(address, "/health"), timeout=5).close()
        except OSError:
            time.sleep(0.2)
        else:
            webbrowser.open(address)
            return
