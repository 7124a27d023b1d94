"""Searches and training runs that are stopped by a signal and resumed with the same command."""

import signal
import subprocess
import sys

import pytest

from keras_dl.cli import main

from ..tracking.conftest import START
from ..tuning.halves import client_of, curve, fits, runs, stop


def test_a_stop_before_the_search_starts(halves, capsys):
    (halves.root / "pipelines" / "stop.py").write_text("raise KeyboardInterrupt")
    for verb, message in (("tune", "the same command resumes, --fresh starts over"), ("train", "stopped")):
        assert main([verb, "pipelines/stop.py"]) == 130
        assert capsys.readouterr().err.strip().endswith(message)


SEARCH = ["tune", "pipelines/halves.py", "--seed", "5"]


def check_stopped(settings, stdout, stderr):
    """Checks the output and the runs of a search that was stopped in its second trial."""
    assert "Traceback" not in stderr
    message = "stopped. Every finished trial is kept: the same command resumes, --fresh starts over"
    assert stderr.splitlines()[-1] == message
    assert "1/3" in stdout and "2/3" not in stdout
    (parent,) = runs(settings)
    statuses = {run.info.run_name: run.info.status for run in (parent, *runs(settings, parent))}
    assert statuses == {"search-random": "KILLED", "trial-1": "FINISHED", "trial-2": "KILLED"}


def check_resumed(settings, run):
    """Resumes the search and checks its runs."""
    assert client_of(settings).search_registered_models() == []
    assert "halves version 1, champion" in run(*SEARCH)
    (parent,) = runs(settings)
    assert [child.info.run_name for child in runs(settings, parent)] == ["trial-1", "trial-2", "trial-3"]
    assert {child.info.status for child in (parent, *runs(settings, parent))} == {"FINISHED"}
    assert len(fits(settings)) == 4  # the first trial is not repeated


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_search_stopped_by_a_signal_is_resumed(halves, run, capfd, number):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stop(halves.root, 2, 1, number)
    capfd.readouterr()
    assert main(SEARCH) == 130
    output = capfd.readouterr()
    check_stopped(halves, output.out, output.err)
    check_resumed(halves, run)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_search_in_another_process_is_stopped_and_resumed(halves, run, environment, number):
    stop(halves.root, 2, 1, number)
    command = [sys.executable, "-c", START, *SEARCH]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert process.returncode == (-number if number == signal.SIGKILL else 130), process.stderr
    if number != signal.SIGKILL:
        check_stopped(halves, process.stdout, process.stderr)
    check_resumed(halves, run)


def test_a_stopped_training_is_resumed(halves, run):
    arguments = ["train", "pipelines/halves.py", "--epochs", "4"]
    stop(halves.root, 1, 2)
    assert main(arguments) == 130
    (stopped,) = runs(halves)
    assert stopped.info.status == "KILLED"
    assert "resuming an interrupted training run; --fresh starts over" in run(*arguments)
    (again,) = runs(halves)
    assert again.info.run_id == stopped.info.run_id and again.info.status == "FINISHED"
    assert list(curve(halves, again)) == [0, 1, 2, 3]
    assert [fit["iterations"] for fit in fits(halves)] == [0, 2]

    stop(halves.root, 3, 2)
    assert main([*arguments, "units=4"]) == 130
    run(*arguments, "units=4", "--fresh")
    assert [fit["iterations"] for fit in fits(halves)[2:]] == [0, 0]
    assert [run.info.status for run in runs(halves)] == ["FINISHED", "KILLED", "FINISHED"]
