"""Searches and trainings that are stopped from outside, and the same command once more."""

import signal
import subprocess
import sys

import pytest

from keras_dl.cli import main

from ..tuning.halves import client_of, curve, fits, runs, stop


def test_a_stop_before_the_search(halves, capsys):
    (halves.root / "pipelines" / "stop.py").write_text("raise KeyboardInterrupt")
    for verb, message in (("tune", "the same command resumes, --fresh starts over"), ("train", "stopped")):
        assert main([verb, "pipelines/stop.py"]) == 130
        assert capsys.readouterr().err.strip().endswith(message)


# Where this process was started in the background, its children would ignore Ctrl-C.
START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from keras_dl.cli import main
sys.exit(main())
"""


def stopped(arguments, environment, number):
    """Runs a command that stops itself; what it printed."""
    command = [sys.executable, "-c", START, *arguments]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert process.returncode == (-number if number == signal.SIGKILL else 130), process.stderr
    assert "Traceback" not in process.stderr
    return process


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT,
               pytest.param(signal.SIGKILL, marks=pytest.mark.slow)]
)  # fmt: skip
def test_a_search_that_is_stopped_goes_on(halves, run, environment, number):
    stop(halves.root, 2, 1, number)
    arguments = ["tune", "pipelines/halves.py", "--seed", "5"]
    process = stopped(arguments, environment, number)
    clean = number != signal.SIGKILL
    if clean:
        assert process.stderr.splitlines()[-1] == (
            "stopped. Every finished trial is kept: the same command resumes, --fresh starts over"
        )
    assert "1/3" in process.stdout and "2/3" not in process.stdout
    (parent,) = runs(halves)
    if clean:
        statuses = {run.info.run_name: run.info.status for run in (parent, *runs(halves, parent))}
        assert statuses == {"search-random": "KILLED", "trial-1": "FINISHED", "trial-2": "KILLED"}
    assert client_of(halves).search_registered_models() == []

    assert "halves version 1, champion" in run(*arguments)
    (again,) = runs(halves)
    assert [child.info.run_name for child in runs(halves, again)] == ["trial-1", "trial-2", "trial-3"]
    assert {child.info.status for child in (again, *runs(halves, again))} == {"FINISHED"}
    assert len(fits(halves)) == 4  # the first trial is not run again


def test_a_training_that_is_stopped_goes_on(halves, run):
    arguments = ["train", "pipelines/halves.py", "--epochs", "4"]
    stop(halves.root, 1, 2)
    assert main(arguments) == 130
    (begun,) = runs(halves)
    assert begun.info.status == "KILLED"
    assert "resuming an interrupted training run; --fresh starts over" in run(*arguments)
    (again,) = runs(halves)
    assert again.info.run_id == begun.info.run_id and again.info.status == "FINISHED"
    assert list(curve(halves, again)) == [0, 1, 2, 3]
    assert [fit["iterations"] for fit in fits(halves)] == [0, 2]

    stop(halves.root, 3, 2)
    assert main([*arguments, "units=4"]) == 130
    run(*arguments, "units=4", "--fresh")
    assert [fit["iterations"] for fit in fits(halves)[2:]] == [0, 0]
    assert [run.info.status for run in runs(halves)] == ["FINISHED", "KILLED", "FINISHED"]
