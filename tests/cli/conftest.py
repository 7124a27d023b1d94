"""A project with one tiny pipeline, and the command line run in this process."""

import os
import signal
import sys

import pytest

from keras_dl.cli import main

from ..tuning.halves import write_pipeline


@pytest.fixture(autouse=True)
def own_signals(monkeypatch):
    """main() takes SIGTERM for the whole process; and what it sets in the environment."""
    monkeypatch.setenv("COLUMNS", "120")
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def halves(project):
    """The settings of the project, which is the current folder."""
    write_pipeline(project.root)
    return project


@pytest.fixture
def error(capfd):
    """error(*arguments): the one line that a wrong input gets; the exit status must be 2."""

    def run(*arguments):
        capfd.readouterr()
        assert main(list(arguments)) == 2
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("keras-dl: "), lines
        return lines[0].removeprefix("keras-dl: ")

    return run


@pytest.fixture
def run(capfd):
    """run(*arguments): what a command prints; the exit status must be 0."""

    def run(*arguments):
        capfd.readouterr()
        assert main(list(arguments)) == 0
        return capfd.readouterr().out

    return run


@pytest.fixture
def environment():
    """Of a subprocess, which finds what this process finds."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
