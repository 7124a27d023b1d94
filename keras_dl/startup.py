"""Importing TensorFlow from the command line."""

import importlib
import logging
import os


def import_tensorflow() -> None:
    """Imports TensorFlow without the notes on oneDNN and CUDA that it writes before any log level counts.

    Its warnings are hidden too: every trial has a model of its own, and TensorFlow takes that for a mistake ("excessive
    retracing").
    """
    absl = importlib.import_module("absl.logging")  # which sets its level anew when it is first imported
    absl.set_verbosity(absl.ERROR)
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "3":
        return  # somebody wants to read them
    error, silent = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)
    try:
        importlib.import_module("tensorflow")
    finally:
        os.dup2(error, 2)
        os.close(silent)
        os.close(error)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
