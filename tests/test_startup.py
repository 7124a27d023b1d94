"""Variables of other programs in the environment of the command line."""

import os

import pytest

from keras_dl.startup import set_environment

NAMES = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_ACTIVE_MODEL_ID")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("KERAS_BACKEND", "MPLBACKEND", "MLFLOW_TRACKING_URI", *NAMES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", os.environ.copy())


def test_nothing_is_printed_without_them(capsys):
    os.environ |= {"KERAS_BACKEND": "tensorflow", "MLFLOW_TRACKING_URI": "http://127.0.0.1:5000"}
    set_environment()
    assert capsys.readouterr() == ("", "")
    assert (os.environ["KERAS_BACKEND"], os.environ["MPLBACKEND"]) == ("tensorflow", "Agg")
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:5000"


@pytest.mark.parametrize("name", NAMES)
def test_a_choice_of_mlflow_is_removed_with_a_note(name, capsys):
    os.environ[name] = "0" * 32
    set_environment()
    assert name not in os.environ and capsys.readouterr().err.startswith(f"note   {name} is ignored: ")


def test_the_backend_is_tensorflow(capsys):
    os.environ |= {"KERAS_BACKEND": "jax", "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    set_environment()
    assert (os.environ["KERAS_BACKEND"], os.environ["MPLBACKEND"]) == ("tensorflow", "Agg")
    assert capsys.readouterr().err == "note   KERAS_BACKEND=jax is ignored: keras-dl needs TensorFlow\n"
