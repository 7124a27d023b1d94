"""How long MLflow waits for a server that does not answer."""

import contextlib
import os

# MLflow's own would try for minutes before it says that a server is away.
BRIEF = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
_LAST_WORDS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "3"}


@contextlib.contextmanager
def last_words():
    """What is told to a server meanwhile is told once, for at most 3 seconds a call: somebody waits for the end.

    MLflow reads these variables at each call, so that the calls of other threads are as brief.
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
