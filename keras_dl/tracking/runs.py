"""MLflow runs: connecting, opening, ending, and what each one holds."""

import contextlib
import logging
import os
import re
import sqlite3
import tempfile
import traceback
from pathlib import Path

import filelock
import mlflow
import requests
import sqlalchemy
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from keras_dl.errors import UserError, reason_of
from keras_dl.tracking.environment import environment, git_diff, is_gone, owner
from keras_dl.tracking.patience import BRIEF, last_words
from keras_dl.tracking.settings import Settings
from keras_dl.tracking.system_metrics import measure

SCHEMES = ("sqlite", "http", "https", "postgresql", "mysql", "mssql", "databricks")


def connect(settings: Settings, experiment: str | None = None) -> None:
    """Points MLflow at the store of the settings and, if named, at an experiment, made if it is new.

    An outer active run wins: then nothing is changed, and our runs are nested in it.

    Raises:
        UserError: if the store cannot be reached; told within seconds, before any work.
    """
    if mlflow.active_run():
        return
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for name, value in BRIEF.items():
        os.environ.setdefault(name, value)
    uri, given = settings.tracking_uri, os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    if given is None:
        # MLflow wrote it there; the file of another project, read later by this process, would be shadowed.
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    _check_uri(uri)
    lock = contextlib.nullcontext()
    if uri.startswith("sqlite:///"):
        # Several processes that create one SQLite store at once break it.
        lock = filelock.FileLock(uri.removeprefix("sqlite:///") + ".lock")
    try:
        with lock:
            _check_database(uri)
            mlflow.search_experiments(max_results=1)
            if experiment:
                _set_experiment(experiment, settings.artifact_location)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"the MLflow store {hide_password(uri)} cannot be used: {_reason(error)}") from error


def _check_uri(uri):
    scheme = uri.partition(":")[0].partition("+")[0]
    if scheme not in SCHEMES:
        raise UserError(
            f"tracking.uri (or MLFLOW_TRACKING_URI) must begin with one of {', '.join(SCHEMES)}, as in "
            f"sqlite:///mlflow.db. Received: {hide_password(uri)!r}"
        )
    if scheme in ("http", "https"):
        try:
            requests.get(uri.rstrip("/") + "/health", timeout=5)
        except (requests.RequestException, UnicodeError) as error:
            raise UserError(
                f"no MLflow server answers at {hide_password(uri)} ({type(error).__name__}): start it, or change "
                "tracking.uri in mlflow.yaml (or MLFLOW_TRACKING_URI)"
            ) from error


def _check_database(uri):
    """Raises whatever is wrong with a database at once: MLflow would try for minutes to open what cannot be opened."""
    if uri.startswith("sqlite:///"):
        with contextlib.closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as store:
            store.execute("PRAGMA user_version")
    elif not uri.startswith(("http", "databricks")):
        waiting = {"connect_timeout": 5} if uri.startswith(("postgresql", "mysql")) else {}
        engine = sqlalchemy.create_engine(uri, connect_args=waiting, poolclass=sqlalchemy.pool.NullPool)
        engine.connect().close()


def _reason(error):
    text = hide_password(reason_of(error))
    if isinstance(error, ModuleNotFoundError):
        return f"{text}: install the driver of that database"
    if re.search(r"error code (401|403)|PERMISSION_DENIED|UNAUTHENTICATED", text):
        return (
            f"it refuses: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN ({text})"
        )
    return text


def hide_password(text: str) -> str:
    """A text without the passwords of the URIs in it."""
    return re.sub(r"(://[^:/@\s]*):[^@/\s]*@", r"\1:***@", text)


def _set_experiment(name, artifact_location):
    found = mlflow.get_experiment_by_name(name)
    if found is None:
        experiment_id = mlflow.create_experiment(name, artifact_location)
    else:
        experiment_id = found.experiment_id
        if found.lifecycle_stage == "deleted":
            mlflow.MlflowClient().restore_experiment(experiment_id)
    _check_artifacts(mlflow.set_experiment(experiment_id=experiment_id).artifact_location)


def _check_artifacts(location):
    if not is_local_uri(location):
        return
    folder = Path(local_file_uri_to_path(location))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f"the files of the runs cannot be written to {folder} ({error.strerror}): make it writable, or change "
            "tracking.artifacts in mlflow.yaml and give the experiment a new name"
        ) from error


@contextlib.contextmanager
def open_run(settings: Settings, name: str, tags: dict | None = None, run_id: str | None = None):
    """An MLflow run, nested if one is active: FINISHED at the end, KILLED by Ctrl-C, FAILED by an error.

    An error or Ctrl-C passes whether or not the store takes their record, within seconds.

    Args:
        settings: for the tags of every run and the system metrics.
        name: str, what the UI calls it.
        tags: further tags.
        run_id: of a run to go on in. None (default) starts one.

    Yields:
        `mlflow.ActiveRun`.

    Raises:
        UserError: if all went well but for the store, which does not take the end.
    """
    if run_id and not _exists(run_id):
        run_id = None  # somebody deleted it in the UI
    run = mlflow.start_run(
        run_id=run_id,
        run_name=None if run_id else name,
        nested=mlflow.active_run() is not None,
        tags={**settings.tracking.tags, **(tags or {}), "owner": owner()},
        log_system_metrics=False,
    )
    if run_id and "error" in run.data.tags:
        mlflow.delete_tag("error")  # it goes on
    try:
        with measure(run.info.run_id, settings):
            yield run
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        # The error itself matters more than its record; a run that could not be ended is closed by `reap`.
        with last_words(), contextlib.suppress(Exception):
            mlflow.end_run("KILLED" if stopped else "FAILED")
            if not stopped:
                mark_error(run.info.run_id, f"{type(error).__name__}: {error}", traceback.format_exc())
        raise
    try:
        mlflow.end_run()
    except Exception as error:
        raise UserError(
            f"the MLflow store {hide_password(mlflow.get_tracking_uri())} fails ({_reason(error)}): run "
            f"{run.info.run_id} is done, and still counts as running there"
        ) from error


def reap(experiment_id: str, but: set[str] = frozenset()) -> int:
    """Marks the runs KILLED that still count as running, though the process of this machine that owned them is gone.

    Args:
        experiment_id: str.
        but: ids of runs to leave as they are.

    Returns:
        How many there were.
    """
    client, killed = mlflow.MlflowClient(), 0
    for run in mlflow.search_runs([experiment_id], "attributes.status = 'RUNNING'", output_format="list"):
        if run.info.run_id not in but and is_gone(run.data.tags.get("owner", "")):
            client.set_terminated(run.info.run_id, "KILLED")
            killed += 1
    return killed


def close_abandoned(run_id: str) -> None:
    """Marks a run and its descendants KILLED where they still count as running: nothing will go on in them."""
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
    """Puts an error where the UI shows it: a tag with the message, and the traceback as `error.txt`."""
    client = mlflow.MlflowClient()
    client.set_tag(run_id, "error", message[:4000])
    client.log_text(run_id, details, "error.txt")


def _exists(run_id):
    try:
        return mlflow.get_run(run_id).info.lifecycle_stage == "active"
    except mlflow.MlflowException:
        return False


def log_origin(pipeline) -> None:
    """Logs to the active run what it takes to do it again: source, versions, devices, commit, seed, command."""
    mlflow.log_artifact(str(pipeline.file), "pipeline")
    described = environment(pipeline.file.parent)
    mlflow.log_dict(described, "environment.json")
    if described["git_dirty"]:
        mlflow.log_text(git_diff(pipeline.file.parent), "git_diff.patch")
    mlflow.set_tags(
        {
            "pipeline": pipeline.name,
            "pipeline_digest": pipeline.digest,
            "data": pipeline.source or "default",
            "seed": pipeline.seed,
            "precision": getattr(pipeline, "precision", "float32"),
            "strategy": getattr(pipeline, "strategy", "none"),
            "jit": getattr(pipeline, "jit", "auto"),
            "deterministic": getattr(pipeline, "deterministic", False),
            "devices": ", ".join(described["devices"]),
            **{name: described[name] for name in ("command", "git_commit", "git_dirty", "cpu")},
        }
    )
