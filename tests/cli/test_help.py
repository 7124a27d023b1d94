"""Help, version and parsing of arguments, all without TensorFlow."""

import json
import re
import shlex
import subprocess
import sys

import pytest

from keras_dl import __version__
from keras_dl.arguments import parse
from keras_dl.cli import main

VERBS = ["tune", "worker", "train", "evaluate", "export", "reproduce", "serve", "predict", "ui", "promote", "rollback",
         "compare", "list", "init"]  # fmt: skip


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "the following arguments are required: COMMAND"),
        (["tuned", "pipelines/halves.py"], "invalid choice: 'tuned'"),
        (["tune"], "the following arguments are required: FILE"),
        (["tune", "pipelines/halves.py", "--tuner", "annealing"], "invalid choice: 'annealing'"),
        (["tune", "pipelines/halves.py", "--trials", "0"], "--trials: expected a whole number of at least 1"),
        (["train", "pipelines/halves.py", "--epochs", "1.5"], "expected a whole number of at least 1. Received: 1.5"),
        (["train", "pipelines/halves.py", "--trials"], "unrecognized arguments: --trials"),
        (["evaluate", "pipelines/halves.py", "-k", "3"], "unrecognized arguments: -k"),
        (["serve", "digits", "--port", "80"], "unrecognized arguments: --port 80"),
        (["train", "pipelines/halves.py", "--seed", "x"], "--seed: expected a whole number from 0 to"),
        (["tune", "pipelines/halves.py", "--seed", "2147483648"], "from 0 to 2147483647. Received: 2147483648"),
        (["evaluate", "pipelines/halves.py", "--split", "all"], "invalid choice: 'all'"),
        (["predict", "halves"], "one of the arguments --image --audio --example --input is required"),
        (["predict", "halves", "--image", "a.png", "--example", "1"], "not allowed with argument"),
        (["serve", "--rest-port", "65536"], "expected a port from 1 to 65535. Received: 65536"),
        (["tune", "a.py", "--early-stop", "mean"], "invalid choice: 'mean'"),
        (["tune", "a.py", "--workers", "-1"], "--workers: expected a whole number of at least 0. Received: -1"),
        (["tune", "a.py", "--executions-per-trial", "0"], "expected a whole number of at least 1. Received: 0"),
        (["tune", "a.py", "--keep", "0"], "--keep: expected a whole number of at least 1. Received: 0"),
        (["tune", "a.py", "--precision", "float16"], "invalid choice: 'float16'"),
        (["train", "a.py", "--strategy", "horovod"], "invalid choice: 'horovod'"),
        (["train", "a.py", "--jit", "yes"], "invalid choice: 'yes'"),
        (["train", "a.py", "--resume"], "unrecognized arguments: --resume"),
        (["worker", "127.0.0.1:9000"], "the following arguments are required: FILE"),
        (["worker", "127.0.0.1:9000", "a.py", "--workers", "0"], "expected a whole number of at least 1. Received: 0"),
        (["reproduce"], "the following arguments are required: RUN_ID"),
        (["promote", "digits"], "the following arguments are required: VERSION"),
        (["rollback"], "the following arguments are required: NAME"),
        (["compare"], "the following arguments are required: NAME"),
        (["ui", "--port", "http"], "expected a port from 1 to 65535. Received: http"),
    ],
)  # fmt: skip
def test_invalid_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert output.out == "" and message in output.err.splitlines()[-1]


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_command(verb, capsys):
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    assert caught.value.code == 0
    output = capsys.readouterr().out
    assert output.startswith(f"usage: keras-dl {verb} ")
    # The example can be parsed.
    (example,) = re.findall(r"^example: keras-dl (.+)$", output, flags=re.MULTILINE)
    assert parse(shlex.split(example)).verb == verb


def test_help_and_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    output = capsys.readouterr().out
    assert re.findall(r"^    (\w+)", output, flags=re.MULTILINE) == VERBS
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"keras-dl {__version__}\n"


FAST = """
import contextlib, io, json, sys
from keras_dl.cli import main
for arguments, expected in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            status = main(arguments)
        except SystemExit as error:
            status = error.code
    assert status == expected, (arguments, status)
    heavy = {"tensorflow", "keras", "keras_tuner", "tensorflow_datasets", "matplotlib", "sklearn"}
    heavy |= {"mlflow"} if "--help" in arguments else set()
    assert not heavy & set(sys.modules), arguments
"""


def test_help_and_invalid_arguments_do_not_import_tensorflow(halves, environment):
    cases = [([verb, "--help"], 0) for verb in VERBS] + [(["--version"], 0), (["tune"], 2), (["serve", "none"], 2)]
    cases += [([verb, "pipelines/none.py"], 2) for verb in ("tune", "train", "evaluate", "export")]
    cases += [(["init", "new"], 0), (["init", "pipelines/halves.py"], 2)]
    command = [sys.executable, "-c", FAST, json.dumps(cases)]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


def test_the_module_can_be_run(halves, environment):
    command = [sys.executable, "-m", "keras_dl.cli", "tune", "pipelines/none.py"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr == "keras-dl: no pipeline file pipelines/none.py. In that folder: pipelines/halves.py\n"


@pytest.mark.parametrize(
    "arguments",
    [
        "tune a.py units=3 rate=0.1 --trials 2 --seed 4",
        "tune a.py units=3 --trials 2 rate=0.1 --seed 4",
        "tune a.py --trials 2 units=3 --seed 4 rate=0.1",
        "tune --seed 4 --trials 2 a.py units=3 rate=0.1",
        "tune --seed 4 a.py --trials 2 units=3 rate=0.1",
    ],
)
def test_values_can_come_before_and_after_options(arguments):
    options = parse(arguments.split())
    assert (options.pipeline, options.trials, options.seed) == ("a.py", 2, 4)
    assert sorted(options.values) == ["rate=0.1", "units=3"]


@pytest.mark.parametrize(
    "option", ["--held-out-speaker ann --languages fr,de", "--held-out-speaker=ann --languages=fr,de"]
)
def test_a_value_can_be_written_as_an_option(option):
    options = parse(["train", "a.py", "units=3", *option.split(), "--epochs", "2", "rate=0.1"])
    assert sorted(options.values) == ["held_out_speaker=ann", "languages=fr,de", "rate=0.1", "units=3"]
    assert options.epochs == 2


def options(text):
    """Returns the parsed options of a command line."""
    return vars(parse(text.split()))


def test_the_options_of_a_search():
    given = options(
        "tune a.py --tuner grid --trials 4 --executions-per-trial 3 --early-stop halving --max-time 1.5h --resume "
        "--workers 2 --chief 0.0.0.0:9000 --epochs 5 --objective val_accuracy,val_loss:0.1 --precision mixed_bfloat16 "
        "--strategy mirrored --jit off --deterministic --keep 3 --fresh --data x.csv"
    )
    expected = {
        "tuner": "grid", "trials": 4, "executions_per_trial": 3, "early_stop": "halving", "max_time": "1.5h",
        "resume": True, "workers": 2, "chief": "0.0.0.0:9000", "epochs": 5, "objective": "val_accuracy,val_loss:0.1",
        "precision": "mixed_bfloat16", "strategy": "mirrored", "jit": "off", "deterministic": True, "keep": 3,
        "fresh": True, "data": "x.csv", "values": [],
    }  # fmt: skip
    assert expected.items() <= given.items()


def test_defaults_of_the_options():
    given = options("tune a.py")
    assert {name for name, value in given.items() if value not in (None, False, 0, [])} == {
        "pipeline", "verb", "tuner", "executions_per_trial",
    }  # fmt: skip
    assert (given["tuner"], given["executions_per_trial"]) == ("random", 1)
