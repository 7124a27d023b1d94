"""The MLflow UI on the configured store."""

import os
import socket
import subprocess
import sys

import mlflow

from keras_dl.errors import UserError
from keras_dl.tracking.runs import connect
from keras_dl.tracking.settings import Settings


def ui(settings: Settings, host: str | None = None, port: int | None = None) -> int:
    """Runs MLflow's server on the store of the settings until it is stopped; the exit status is the server's.

    Args:
        settings: with the store, and host and port unless given.
        host: address to listen on. Defaults to that of `mlflow.yaml`, 127.0.0.1.
        port: int. Defaults to that of `mlflow.yaml`, 5000.

    Raises:
        UserError: if the port is in use, or the store is a server, which has a UI of its own.
    """
    host, port = host or settings.ui.host, port or settings.ui.port
    uri = settings.tracking_uri
    if uri.startswith(("http://", "https://")):
        raise UserError(f"the runs are on a server which shows them itself: open {uri}")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"cannot listen on {host}:{port} ({error.strerror}): give another --port") from error
    connect(settings)  # makes a new store, so that the page opens on an empty list and not on an error
    print(f"MLflow UI of {uri}, Ctrl-C ends it")
    for experiment in mlflow.search_experiments(order_by=["last_update_time DESC"]):
        if experiment.name != "Default":
            # Without the last part the UI opens its pages for traces of language models.
            page = f"#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning"
            print(f"  {experiment.name:20} http://{host}:{port}/{page}")
    print(f"  {'all':20} http://{host}:{port}", flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", uri, "--default-artifact-root", settings.artifact_location or ""]
    # Job workers are for MLflow's language model features: eight processes and 2 GB more.
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(command, env={**os.environ, **quiet})
    try:
        return server.wait()
    except KeyboardInterrupt:
        server.terminate()
        server.wait()
        return 0
