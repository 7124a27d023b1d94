"""Patches and private parts of MLflow."""

import contextlib
import logging
import os
import types
from pathlib import Path

import mlflow
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

__all__ = [
    "BRIEF",
    "SystemMetricsMonitor",  # MLflow's own thread ends permanently after one failure of the store
    "TESTED",
    "is_local_uri",  # MLflow does not check where an experiment stores its files before the first write
    "keras_flavor",
    "last_words",
    "local_file_uri_to_path",
    "quiet_loggers",
]

TESTED = ">=3.17,<3.18"

# MLflow's defaults retry for minutes before reporting that a server is unreachable.
BRIEF = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
_LAST_WORDS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "3"}


def quiet_loggers() -> None:
    """Hides the log messages of MLflow and of its database migrations."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def keras_flavor(after_saving) -> types.SimpleNamespace:
    """Returns a flavor for `mlflow.models.Model.log` that saves a Keras model and calls `after_saving(folder,
    mlflow_model)`.

    `mlflow.keras` writes the input example before it creates the folder (mlflow#16183), so the folder is created first.
    """

    def save_model(path, mlflow_model, validate_serving_input, **options):
        Path(path).mkdir(parents=True)
        mlflow.keras.save_model(path=path, mlflow_model=mlflow_model, **options)
        after_saving(Path(path), mlflow_model)

    return types.SimpleNamespace(save_model=save_model, __name__="mlflow.keras", FLAVOR_NAME="keras")


@contextlib.contextmanager
def last_words():
    """Limits MLflow's HTTP calls within the context to one attempt of at most 3 seconds, for the end of a run.

    MLflow reads these variables at each call, so calls of other threads are limited too.
    """
    before = {name: os.environ.get(name) for name in _LAST_WORDS}
    os.environ.update(_LAST_WORDS)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
