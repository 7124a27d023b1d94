"""MLflow runs: connecting to a store, opening and ending runs, and logging their origin and system metrics."""

import contextlib
import http.client
import logging
import os
import re
import sqlite3
import ssl
import tempfile
import threading
import traceback
import urllib.error
import urllib.request
from pathlib import Path

import filelock
import mlflow
import sqlalchemy

from keras_dl.compat.mlflow import (
    BRIEF,
    SystemMetricsMonitor,
    is_local_uri,
    last_words,
    local_file_uri_to_path,
    quiet_loggers,
)
from keras_dl.errors import UserError, reason_of
from keras_dl.tracking.environment import environment, git_diff, is_gone, owner
from keras_dl.tracking.moved import is_within, keeps_files_inside, update_paths
from keras_dl.tracking.names import with_mlflow_names
from keras_dl.tracking.settings import Settings, hide_password

SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks")
# Errors raised by an unusable store. OSError includes requests.RequestException and filelock.Timeout; ImportError is
# raised for a missing database driver.
STORE_ERRORS = (mlflow.MlflowException, sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, OSError, ImportError)
logger = logging.getLogger(__name__)


def connect(settings: Settings, experiment: str | None = None) -> None:
    """Connects MLflow to the store of the settings and optionally to an experiment, which is created if missing.

    If a run is already active, nothing is changed and new runs are nested in it. If the store cannot be used, UserError
    is raised within seconds. The paths in the store of a project that was moved or copied are updated.
    """
    if mlflow.active_run():
        return
    quiet_loggers()
    for name, value in BRIEF.items():
        os.environ.setdefault(name, value)
    uri, given = settings.tracking_uri, os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    if given is None:
        # Set by MLflow. It would override the mlflow.yaml of other projects that this process reads later.
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    _check_uri(uri)
    lock = contextlib.nullcontext()
    if uri.startswith("sqlite:///"):
        # Creating one SQLite store from several processes at the same time corrupts it.
        lock = filelock.FileLock(uri.removeprefix("sqlite:///") + ".lock")
    try:
        with lock:
            _check_database(uri)
            mlflow.search_experiments(max_results=1)
            if os.environ.get("MLFLOW_REGISTRY_URI"):
                mlflow.search_registered_models(max_results=1)
            update_paths(settings)
            if experiment:
                _set_experiment(experiment, settings)
                # Set by MLflow, like the URI above. It would choose the experiment of other programs.
                os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
    except STORE_ERRORS as error:
        raise UserError(f"the MLflow store {hide_password(uri)} cannot be used: {_reason(error)}") from error


def _check_uri(uri):
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme not in SCHEMES:
        raise UserError(
            f"tracking.uri (or MLFLOW_TRACKING_URI) must start with one of {', '.join(SCHEMES)}, for example "
            f"sqlite:///mlflow.db. Received: {hide_password(uri)!r}"
        )
    if scheme in ("http", "https"):
        _check_server(uri)


def _check_server(uri):
    """Raises UserError if no server answers within 5 seconds: MLflow itself would retry for minutes."""
    url = re.sub(r"://[^/@\s]*@", "://", uri.rstrip("/"))  # without a password, which urlopen cannot read
    try:
        urllib.request.urlopen(f"{url}/health", timeout=5).close()
    except urllib.error.HTTPError:
        return  # a server answers; MLflow reports what is wrong
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            return  # MLflow has its own options for certificates
        raise UserError(
            f"no MLflow server answers at {hide_password(uri)} ({type(reason).__name__}): start it, or change "
            "tracking.uri in mlflow.yaml (or MLFLOW_TRACKING_URI)"
        ) from error


def _check_database(uri):
    """Raises the database's error if it cannot be opened: MLflow itself would retry for minutes."""
    if uri.startswith("sqlite:///"):
        with contextlib.closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as store:
            store.execute("PRAGMA user_version")
    elif not uri.startswith(("http", "databricks")):
        options = {"connect_timeout": 5} if uri.startswith(("postgresql", "mysql")) else {}
        engine = sqlalchemy.create_engine(uri, connect_args=options, poolclass=sqlalchemy.pool.NullPool)
        engine.connect().close()


def _reason(error):
    text = hide_password(reason_of(error))
    if isinstance(error, ModuleNotFoundError):
        return f"{text}: install the driver of this database"
    if re.search(r"error code (401|403)|PERMISSION_DENIED|UNAUTHENTICATED", text):
        return (
            "access denied: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN "
            f"({text})"
        )
    return text


def _set_experiment(name, settings):
    found = mlflow.get_experiment_by_name(name)
    if found is None:
        experiment_id = mlflow.create_experiment(name, settings.artifact_location)
    else:
        experiment_id = found.experiment_id
        if found.lifecycle_stage == "deleted":
            mlflow.MlflowClient().restore_experiment(experiment_id)
    _check_artifacts(mlflow.set_experiment(experiment_id=experiment_id).artifact_location, name, settings)


def _check_artifacts(location, name, settings):
    if not is_local_uri(location):
        return
    folder = Path(local_file_uri_to_path(location))
    if keeps_files_inside(settings) and not is_within(folder, settings.root):
        raise UserError(
            f"the experiment {name} stores its files in {folder}, outside of this project. Set tracking.artifacts in "
            "mlflow.yaml to that folder to continue there, or rename the pipeline's file to start a new experiment here"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f"cannot write the artifacts of runs to {folder} ({error.strerror}): make it writable, or change "
            "tracking.artifacts in mlflow.yaml and the name of the experiment"
        ) from error


@contextlib.contextmanager
def open_run(settings: Settings, name: str, tags: dict | None = None, run_id: str | None = None):
    """Opens an MLflow run, nested if one is active, and ends it as FINISHED, KILLED by Ctrl-C, or FAILED by an error.

    An error or Ctrl-C is raised within seconds even if the store fails to record it. The run `run_id` is resumed,
    unless it was deleted; None (default) starts a new run of this name. `tags` are added to those of the settings.
    """
    if run_id and not _exists(run_id):
        run_id = None  # deleted in the UI
    run = mlflow.start_run(
        run_id=run_id,
        run_name=None if run_id else name,
        nested=mlflow.active_run() is not None,
        tags={**with_mlflow_names(settings.tracking.tags), **(tags or {}), "owner": owner()},
        log_system_metrics=False,
    )
    if run_id and "error" in run.data.tags:
        mlflow.delete_tag("error")
    try:
        with measure(run.info.run_id, settings):
            yield run
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        # Nothing may hide the error itself. A run that could not be ended is closed by `reap` later.
        with last_words(), contextlib.suppress(Exception):
            mlflow.end_run("KILLED" if stopped else "FAILED")
            if not stopped:
                mark_error(run.info.run_id, f"{type(error).__name__}: {error}", traceback.format_exc())
        raise
    try:
        mlflow.end_run()
    except STORE_ERRORS as error:
        raise UserError(
            f"the MLflow store {hide_password(mlflow.get_tracking_uri())} failed ({_reason(error)}): run "
            f"{run.info.run_id} is complete, but the store still lists it as running"
        ) from error


def reap(experiment_id: str, but: set[str] = frozenset()) -> int:
    """Marks as KILLED the runs with status RUNNING whose process, on this machine, has ended; returns their number."""
    client, killed = mlflow.MlflowClient(), 0
    for run in mlflow.search_runs([experiment_id], "attributes.status = 'RUNNING'", output_format="list"):
        if run.info.run_id not in but and is_gone(run.data.tags.get("owner", "")):
            client.set_terminated(run.info.run_id, "KILLED")
            killed += 1
    return killed


def close_abandoned(run_id: str) -> None:
    """Marks a run and its descendants as KILLED if their status is RUNNING, because they will not be resumed."""
    if not _exists(run_id):
        return
    client, experiments = mlflow.MlflowClient(), [mlflow.get_run(run_id).info.experiment_id]
    runs = [mlflow.get_run(run_id)]
    while runs:
        run = runs.pop()
        if run.info.status == "RUNNING":
            client.set_terminated(run.info.run_id, "KILLED")
        parent = f"tags.mlflow.parentRunId = '{run.info.run_id}'"
        runs += mlflow.search_runs(experiments, parent, output_format="list")


def mark_error(run_id: str, message: str, details: str) -> None:
    """Records an error where the UI shows it: the message as a tag, the traceback as `error.txt`."""
    client = mlflow.MlflowClient()
    client.set_tag(run_id, "error", message[:4000])
    client.log_text(run_id, details, "error.txt")


def _exists(run_id):
    try:
        return mlflow.get_run(run_id).info.lifecycle_stage == "active"
    except mlflow.MlflowException:
        return False


def log_origin(pipeline) -> None:
    """Logs what is needed to reproduce the active run: source, versions, devices, commit, seed, command."""
    for path, file in pipeline.files.items():
        mlflow.log_artifact(str(file), (Path("pipeline") / path).parent.as_posix())
    described = environment(pipeline.file.parent)
    mlflow.log_dict(described, "environment.json")
    if described["git_dirty"]:
        mlflow.log_text(git_diff(pipeline.file.parent), "git_diff.patch")
    mlflow.set_tags(
        {
            "pipeline": pipeline.name,
            "pipeline_digest": pipeline.digest,
            "data": pipeline.source or "default",
            "goal": pipeline.objective,
            "epochs": pipeline.epochs,
            **{name: getattr(pipeline, name) for name in ("seed", "precision", "strategy", "jit", "deterministic")},
            "devices": ", ".join(described["devices"]),
            **{name: described[name] for name in ("command", "git_commit", "git_dirty", "cpu")},
        }
    )


@contextlib.contextmanager
def measure(run_id: str, settings: Settings, node: str | None = None):
    """Logs system metrics to a run while the context is open: CPU, memory, disk, network, and GPUs with nvidia-ml-py.

    The processes of a distributed search can log to the same run, each as a different `node`, which gives the metrics
    the names `system/<node>/...`. If the store is unreachable or a measurement fails, samples are lost and the first
    failure is logged as a warning. `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING` takes precedence over the settings.
    """
    override = os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING")
    if not (settings.system_metrics.enabled if override is None else override.lower() in ("true", "1")):
        yield
        return
    monitor = SystemMetricsMonitor(run_id, settings.system_metrics.interval, resume_logging=True, node_id=node)
    ended = threading.Event()

    def sample():
        # The monitor's own loop stops at the first failure of the store.
        failed = False
        while not ended.wait(monitor.sampling_interval):
            try:
                monitor.collect_metrics()
                monitor.publish_metrics(monitor.aggregate_metrics())
            except Exception as error:
                if not failed:
                    failed = True
                    logger.warning("system metrics could not be logged: %s", hide_password(reason_of(error)))

    thread = threading.Thread(target=sample, name="system-metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=2)
        if not thread.is_alive():  # otherwise it is still waiting for the store
            with last_words(), contextlib.suppress(Exception):
                monitor.mlflow_logger.flush()
