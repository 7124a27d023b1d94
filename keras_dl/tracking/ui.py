"""The MLflow UI on the configured store, with a saved view of the runs page for each experiment.

MLflow 3 stores saved views as tags of the experiment and opens the view named in the URL of the page.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from urllib.parse import urlencode, urljoin
from urllib.request import urlopen

import mlflow
from mlflow.entities import Experiment

from keras_dl.errors import UserError
from keras_dl.tracking.names import KERAS_TUNER, recorded_name
from keras_dl.tracking.runs import connect
from keras_dl.tracking.settings import Settings

_VIEW = "keras-dl"
_TAG = f"mlflow.sharedViewState.{_VIEW}"
_LONGEST_TAG = 5000


def ui(
    settings: Settings,
    host: str | None = None,
    port: int | None = None,
    name: str | None = None,
    open_browser: bool = False,
) -> int:
    """Prints the URLs of the experiments and runs MLflow's server on the store until it is stopped; returns its exit
    status.

    No server is started if the store is a tracking server, which already has a UI. Host and port default to those of
    `mlflow.yaml`. Without the name of an experiment, all are printed, the most recently updated first.
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


def page(experiment: Experiment) -> str:
    """Saves a view of the experiment's runs and returns its URL, relative to the server.

    The view shows the objective, hyperparameters and test metrics, best run first. If it cannot be saved, the URL opens
    MLflow's default view.
    """
    # Without workflowType, the UI opens its pages for traces of language models.
    query = {"workflowType": "machine_learning"}
    runs = mlflow.search_runs([experiment.experiment_id], max_results=500, output_format="list")
    if runs:
        with contextlib.suppress(mlflow.MlflowException):  # a read-only store
            _save(experiment, view(runs))
            query["viewStateShareKey"] = _VIEW
    return f"#/experiments/{experiment.experiment_id}/runs?{urlencode(query)}"


def view(runs: list) -> dict:
    """Returns the state of MLflow's runs page, given its runs, newest first: columns, their widths, sort order and
    filter.

    The page is sorted by the objective of the newest run that has one.
    """
    tags = next((run.data.tags for run in runs if "objective" in run.data.tags), {})
    kinds = [run.data.tags.get("kind") for run in runs]
    leaves = [run for run, kind in zip(runs, kinds, strict=True) if kind == ("trial" if "trial" in kinds else "train")]
    metrics = {name for run in runs for name in run.data.metrics}
    best = [recorded_name(f"{what}_{tags.get('objective')}", metrics) for what in ("best", "spread")]
    # Hyperband has five values of Keras Tuner.
    params = sorted({name for run in leaves for name in run.data.params if not name.startswith(KERAS_TUNER)})
    columns = [f"metrics.`{name}`" for name in best if name in metrics]
    columns += [f"params.`{name}`" for name in params]
    columns += [f"metrics.`{name}`" for name in sorted(metrics) if name.startswith("test_")]
    columns += ["attributes.`Duration`"]
    state = {
        "selectedColumns": columns,
        "columnOrder": [*columns],
        "columnWidths": {each: _width(each) for each in columns},
    }
    if best[0] in metrics:
        state |= {"orderByKey": f"metrics.`{best[0]}`", "orderByAsc": tags.get("direction") != "max"}
    if "execution" in kinds:  # trials have the means of their executions
        state["searchFilter"] = "tags.kind != 'execution'"
    return state


def _width(column):
    """Returns the width in pixels that fits the name of a column and eight digits."""
    return max(95, 7 * len(column.partition("`")[2]) + 30)


def _save(experiment, state):
    now = int(time.time() * 1000)
    saved = {"name": "trials, best first", "createdAt": now, "updatedAt": now}
    while len(text := json.dumps({**saved, "state": json.dumps(state)})) > _LONGEST_TAG:
        dropped = state["selectedColumns"].pop()
        state["columnOrder"].pop()
        del state["columnWidths"][dropped]
    mlflow.MlflowClient().set_experiment_tag(experiment.experiment_id, _TAG, text)
