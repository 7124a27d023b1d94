"""Timeouts of MLflow's HTTP client for servers that do not respond."""

import contextlib
import os

# MLflow's defaults retry for minutes before reporting that a server is unreachable.
BRIEF = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
_LAST_WORDS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "3"}


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
