"""The environment of the command line, and importing TensorFlow there."""

import importlib
import logging
import os
import sys

# Variables that MLflow uses to choose a run, an experiment or a model, such as those left by another program.
_CHOICES = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_ACTIVE_MODEL_ID")


def set_environment() -> None:
    """Sets the variables that libraries read when they are imported, and removes those of another program.

    Each of the user's variables that is ignored is reported on standard error.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # hides TensorFlow's notes about the processor
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # the client reports gRPC's errors
    os.environ["MPLBACKEND"] = "Agg"  # a notebook sets its own, which may not be installed here
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # overrides ~/.keras/keras.json too
    if backend != "tensorflow":
        print(f"note   KERAS_BACKEND={backend} is ignored: keras-dl needs TensorFlow", file=sys.stderr)
    for name in _CHOICES:
        if os.environ.pop(name, None) is not None:
            print(f"note   {name} is ignored: keras-dl creates its own runs in experiments named after pipelines",
                  file=sys.stderr)  # fmt: skip


def import_tensorflow() -> None:
    """Imports TensorFlow without the messages about oneDNN and CUDA that it prints regardless of the log level.

    TensorFlow's warnings are hidden too: it warns about "excessive retracing" because every trial builds a new model.
    """
    absl = importlib.import_module("absl.logging")  # importing absl.logging resets the log level
    absl.set_verbosity(absl.ERROR)
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "3":
        return  # the user asked for the messages
    error, silent = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)
    try:
        importlib.import_module("tensorflow")
    finally:
        os.dup2(error, 2)
        os.close(silent)
        os.close(error)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
