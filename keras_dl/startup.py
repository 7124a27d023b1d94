"""Importing TensorFlow from the command line."""

import importlib
import logging
import os


def import_tensorflow() -> None:
    """Imports TensorFlow without the messages about oneDNN and CUDA that it prints regardless of the log level.

    TensorFlow's warnings are hidden too: it warns about "excessive retracing" because every trial builds another model.
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
