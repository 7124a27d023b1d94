"""A project with a tiny pipeline, and the command line run in this process."""

import os
import signal
import sys

import pytest

from keras_dl.cli import main
from keras_dl.training import train as training
from keras_dl.training.reuse import CompiledModels
from keras_dl.tuning import tuner

from ..tuning.halves import write_pipeline

MODELS = CompiledModels(most=16)


@pytest.fixture(autouse=True)
def shared_models(monkeypatch):
    """Shares compiled models between commands, since compiling takes most of the time of a tiny training run."""
    for module in (training, tuner):
        monkeypatch.setattr(module, "CompiledModels", lambda: MODELS)


@pytest.fixture(autouse=True)
def own_signals(monkeypatch):
    """Restores the signal handlers, of which main() sets that of SIGTERM."""
    monkeypatch.setenv("COLUMNS", "120")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def halves(project):
    """The settings of the project, which is the current folder."""
    write_pipeline(project.root)
    return project


@pytest.fixture
def error(capfd):
    """error(*arguments): returns the one-line message of a command that must exit with status 2."""

    def run(*arguments):
        capfd.readouterr()
        assert main(list(arguments)) == 2
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("keras-dl: "), lines
        return lines[0].removeprefix("keras-dl: ")

    return run


@pytest.fixture
def run(capfd):
    """run(*arguments): returns the output of a command that must exit with status 0."""

    def run(*arguments):
        capfd.readouterr()
        assert main(list(arguments)) == 0
        return capfd.readouterr().out

    return run


@pytest.fixture
def environment():
    """The environment of a subprocess, which imports from the same folders as this process."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
