"""The MLflow UI on the configured store."""

import os
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from urllib.parse import urljoin

import mlflow
import requests

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
    """Runs MLflow's server on the store of the settings until it is stopped; the exit status is the server's.

    Each experiment's page is printed, with the columns of its search and the best run first. Where the store is a
    server, which has a UI of its own, that is all.

    Args:
        settings: with the store, and host and port unless given.
        host: address to listen on. Defaults to that of `mlflow.yaml`, 127.0.0.1.
        port: int. Defaults to that of `mlflow.yaml`, 5000.
        name: of the only experiment to print. None (default): all, those with the newest runs first.
        open_browser: open the first page in a browser. Defaults to False.

    Raises:
        UserError: if the port is in use, or there is no such experiment.
    """
    host, port = host or settings.ui.host, port or settings.ui.port
    uri = settings.tracking_uri
    is_server = uri.startswith(("http://", "https://"))
    if not is_server:
        _check_port(host, port)
    connect(settings)  # makes a new store, so that the page opens on an empty list and not on an error
    address = uri.rstrip("/") if is_server else f"http://{host}:{port}"
    experiments = _experiments(name)
    print(f"the runs are on a server which shows them itself: {uri}" if is_server else f"MLflow UI of {uri}")
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
        raise UserError(f"no experiment {name!r} in the store. There is: {names or 'none'}")
    return experiments


def _check_port(host, port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"cannot listen on {host}:{port} ({error.strerror}): give another --port") from error


def _serve(settings, host, port, opened):
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", settings.tracking_uri]
    command += ["--default-artifact-root", settings.artifact_location or ""]
    # Job workers are for MLflow's language model features: eight processes and 2 GB more.
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
    """Opens a page as soon as the server answers."""
    while server.poll() is None:
        try:
            requests.get(urljoin(address, "/health"), timeout=5)
        except requests.RequestException:
            time.sleep(0.2)
        else:
            webbrowser.open(address)
            return
