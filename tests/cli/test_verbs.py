"""The commands, in the order in which a user runs them."""

import shutil
import signal
import subprocess
import sys

import pytest

from keras_dl.cli import main
from keras_dl.tracking.runs import connect

from ..release.versions import register
from ..tracking.conftest import START
from ..tuning.halves import client_of, curve, fits, runs, stop


def test_from_a_file_to_a_prediction(halves, run):
    options = ["--trials", "2", "--epochs", "1", "--seed", "3"]
    output = run("tune", "pipelines/halves.py", *options, "units=4", "cell=mean")
    assert "1/2" in output and "2/2" in output and "model  halves version 1, champion" in output
    assert [(fit["units"], fit["cell"]) for fit in fits(halves)] == [(4, "mean")] * 2
    # The same training run twice: the second cannot beat the first, so its version does not become the champion.
    for version in ("2", "3"):
        output = run("train", "pipelines/halves.py", "--epochs", "3", "rate=0.05", "bias=False")
        assert f"halves version {version}, " in output
    assert "version 3, challenger" in output and not (halves.saved_models / "halves" / "3").exists()
    client = client_of(halves)
    training = client.get_run(client.get_model_version("halves", "3").run_id)
    params = training.data.params
    assert (params["rate"], params["bias"], params["epochs"]) == ("0.05", "False", "3")
    output = run("evaluate", "pipelines/halves.py", "--model", "1", "--split", "validation")
    assert output.startswith("halves version 1 on validation: accuracy ")
    assert "exported halves version 3 to" in run("export", "pipelines/halves.py", "--model", "3")
    assert "halves, version 3:" in run("predict", "halves", "--example", "31")
    assert "larger: [" in run("predict", "halves", "--input", '{"signal": [[[1.0], [2.0], [3.0]]]}')
    rows = [line.split() for line in run("list").splitlines()]
    assert [row[1] for row in rows if row and row[0] == "halves"] == ["3", "2", "1"]

    output = run("reproduce", training.info.run_id)
    assert "identical" in output
    output = run("compare", "halves", "1", "3")
    assert "version 3 " in output and "rate" in output
    assert "halves version 3 is the champion" in run("promote", "halves", "3")
    assert int(client.get_model_version_by_alias("halves", "champion").version) == 3
    assert "is the champion again" in run("rollback", "halves")
    assert int(client.get_model_version_by_alias("halves", "champion").version) == 2


def test_the_options_reach_the_search(halves, run):
    output = run(
        "tune", "pipelines/halves.py", "--tuner", "grid", "--trials", "2", "--executions-per-trial", "2",
        "--objective", "val_accuracy,val_loss:0.1", "--max-time", "1h", "--early-stop", "median", "--keep", "1",
        "--jit", "off", "rate=0.05", "cell=max", "bias=True",
    )  # fmt: skip
    assert "version 1, champion" in output and "±" in output
    (parent,) = runs(halves)
    expected = {
        "tuner": "grid", "trials": "2", "executions": "2", "objective": "val_accuracy,val_loss:0.1",
        "max_time": "3600.0", "early_stop": "median", "jit": "off",
        "pins": "{'rate': 0.05, 'cell': 'max', 'bias': True}",
    }  # fmt: skip
    assert expected.items() <= parent.data.params.items()
    assert len(fits(halves)) == 4


def test_a_second_project_has_its_own_store(halves, capsys, monkeypatch):
    assert main(["init", "second"]) == 0
    monkeypatch.chdir(halves.root / "second")
    assert main(["list"]) == 0
    assert "no registered models yet" in capsys.readouterr().out
    assert not (halves.root / "second" / "mlflow.db").exists()


def test_an_export_is_checked_alone_and_against_its_version(halves, run, error, capfd):
    run("train", "pipelines/halves.py")
    folder = halves.saved_models / "halves" / "1"
    assert "loads in a process without keras_dl" in run("export", "--check", str(folder))
    compared = run("export", "pipelines/halves.py", "--model", "1", "--check", str(folder))
    assert compared.startswith("compared with halves version 1\n")
    assert "gives the same answers as the Keras model: " in compared
    assert error("export", "--check", str(folder.parent)).endswith("Subfolders with a SavedModel: 1")
    shutil.rmtree(folder / "variables")
    capfd.readouterr()
    assert main(["export", "--check", str(folder)]) == 1
    assert "error: variables/: the weights are missing" in capfd.readouterr().out


def test_missing_arguments_raise_an_error(halves, error):
    assert error("export") == "export requires a pipeline FILE, or --check DIR"
    assert error("export", "--check", "nowhere").startswith("no folder nowhere: --check requires")
    assert error("export", "pipelines/halves.py", "--check", "mlflow.db").startswith("no folder mlflow.db")


@pytest.fixture
def digits(project):
    """Two versions of digits, both exported; the second replaced the first as champion."""
    connect(project, "digits")
    for version, value in (("1", 0.5), ("2", 0.25)):
        register(project, "digits", value, values={"rate": value})
        (project.saved_models / "digits" / version).mkdir(parents=True)
    return project


COMMANDS = """
import sys
from keras_dl.cli import main
for command in ("list", "compare digits"):
    assert main(command.split()) == 0
    assert not {"tensorflow", "keras", "keras_tuner"} & set(sys.modules), command
"""


def test_list_and_compare_do_not_import_tensorflow(digits, environment):
    done = subprocess.run([sys.executable, "-c", COMMANDS], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "digits   2         champion" in done.stdout
    assert "version 1 does not replace version 2" in done.stdout


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


def test_a_stopped_training_run_is_resumed(halves, run):
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
