"""MLflow runs: connecting, opening, and what each one holds."""

import contextlib
import importlib.metadata
import logging
import os
import platform
import sqlite3
import subprocess
import sys
import traceback
from pathlib import Path

import filelock
import mlflow
import requests

from keras_dl.errors import UserError
from keras_dl.tracking.settings import Settings

PACKAGES = ("keras-dl", "tensorflow", "keras", "keras-tuner", "tensorflow-datasets", "mlflow", "numpy")


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
    if "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL" not in os.environ:
        mlflow.set_system_metrics_sampling_interval(settings.system_metrics.interval)
    uri, given = settings.tracking_uri, os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    if given is None:
        # MLflow wrote it there; the file of another project, read later by this process, would be shadowed.
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    if uri.startswith(("http://", "https://")):
        try:
            requests.get(uri.rstrip("/") + "/health", timeout=5)
        except requests.RequestException as error:
            raise UserError(
                f"no MLflow server answers at {uri} ({type(error).__name__}): start it, or change tracking.uri in "
                "mlflow.yaml (or MLFLOW_TRACKING_URI)"
            ) from error
    lock = contextlib.nullcontext()
    if uri.startswith("sqlite:///"):
        # Several processes that create one SQLite store at once break it.
        lock = filelock.FileLock(uri.removeprefix("sqlite:///") + ".lock")
    try:
        with lock:
            if uri.startswith("sqlite:///"):  # MLflow would try for minutes to open what cannot be opened
                with contextlib.closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as store:
                    store.execute("PRAGMA user_version")
            mlflow.search_experiments(max_results=1)
            if experiment:
                _set_experiment(experiment, settings.artifact_location)
    except Exception as error:
        raise UserError(f"the MLflow store {uri} cannot be used: {str(error).strip().splitlines()[0]}") from error


def _set_experiment(name, artifact_location):
    found = mlflow.get_experiment_by_name(name)
    if found is None:
        experiment_id = mlflow.create_experiment(name, artifact_location)
    else:
        experiment_id = found.experiment_id
        if found.lifecycle_stage == "deleted":
            mlflow.MlflowClient().restore_experiment(experiment_id)
    mlflow.set_experiment(experiment_id=experiment_id)


@contextlib.contextmanager
def open_run(settings: Settings, name: str, tags: dict | None = None, run_id: str | None = None):
    """An MLflow run, nested if one is active: FINISHED at the end, KILLED by Ctrl-C, FAILED by an error.

    Args:
        settings: for the tags of every run and the system metrics.
        name: str, what the UI calls it.
        tags: further tags.
        run_id: of a run to go on in. None (default) starts one.

    Yields:
        `mlflow.ActiveRun`.
    """
    if run_id and not _exists(run_id):
        run_id = None  # somebody deleted it in the UI
    measured = None if "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING" in os.environ else settings.system_metrics.enabled
    run = mlflow.start_run(
        run_id=run_id,
        run_name=None if run_id else name,
        nested=mlflow.active_run() is not None,
        tags={**settings.tracking.tags, **(tags or {})},
        log_system_metrics=measured,
    )
    if run_id and "error" in run.data.tags:
        mlflow.delete_tag("error")  # it goes on
    try:
        yield run
    except KeyboardInterrupt:
        mlflow.end_run("KILLED")
        raise
    except BaseException as error:
        with contextlib.suppress(Exception):  # the error itself matters more than its record
            mark_error(run.info.run_id, f"{type(error).__name__}: {error}", traceback.format_exc())
        mlflow.end_run("FAILED")
        raise
    mlflow.end_run()


def close_abandoned(run_id: str) -> None:
    """Marks a run and its children KILLED where they still count as running: nothing will go on in them."""
    if not _exists(run_id):
        return
    run = mlflow.get_run(run_id)
    children = mlflow.search_runs(
        [run.info.experiment_id], f"tags.mlflow.parentRunId = '{run_id}'", output_format="list"
    )
    for each in [run, *children]:
        if each.info.status == "RUNNING":
            mlflow.MlflowClient().set_terminated(each.info.run_id, "KILLED")


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
    mlflow.set_tags(
        {
            "pipeline": pipeline.name,
            "data": pipeline.source or "default",
            "seed": pipeline.seed,
            "command": " ".join(sys.argv),
            "git_commit": described["git_commit"],
            "git_dirty": described["git_dirty"],
            "devices": ", ".join(described["devices"]),
        }
    )


def environment(folder: Path) -> dict:
    """Versions, devices and the state of the git tree around `folder`; `git_commit` is "none" outside of one."""
    import keras

    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "backend": keras.backend.backend(),
        "precision": keras.mixed_precision.dtype_policy().name,
        "devices": _devices(),
        "cpu_count": os.cpu_count(),
        "git_commit": _git(folder, "rev-parse", "HEAD") or "none",
        "git_dirty": bool(_git(folder, "status", "--porcelain")),
    }


def _devices():
    import tensorflow as tf

    names = []
    for device in tf.config.list_physical_devices():
        details = tf.config.experimental.get_device_details(device) if device.device_type == "GPU" else {}
        names.append(details.get("device_name", device.name.removeprefix("/physical_device:")))
    return names


def _git(folder, *arguments):
    try:
        answer = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
