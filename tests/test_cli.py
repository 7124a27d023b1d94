"""The command line: exit codes, one-line errors, help, and what a stop leaves behind."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time

import mlflow
import pytest

from keras_dl import __version__
from keras_dl.cli import _parse, main

VERBS = ["tune", "train", "evaluate", "export", "serve", "predict", "ui", "list", "init"]

# The second training of a search waits after its first epoch while there is a file `hold`.
PIPELINE = '''"""Which half is larger."""

import json
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_dl import Pipeline
from keras_dl.data import Splits, batches, load

HERE = Path(__file__).parent


def halves(count, seed):
    signal = np.random.default_rng(seed).normal(size=(count, 6, 1)).astype("float32")
    larger = signal[:, :3].sum(1) > signal[:, 3:].sum(1)
    return tf.data.Dataset.from_tensor_slices((signal, larger.astype("float32"))).cache()


class Hold(keras.callbacks.Callback):
    def __init__(self, values):
        super().__init__()
        self.values = values

    def on_train_begin(self, logs=None):
        with open(HERE / "fits.jsonl", "a") as file:
            file.write(json.dumps(self.values) + "\\n")

    def on_epoch_end(self, epoch, logs=None):
        if (HERE / "hold").exists() and len((HERE / "fits.jsonl").read_text().splitlines()) == 2:
            (HERE / "hold").rename(HERE / "held")
            time.sleep(120)


class Halves(Pipeline):
    objective = "val_accuracy"
    epochs = 2
    trials = 3

    def data(self, hp):
        if self.source == "empty":
            splits = Splits(halves(64, 1), halves(32, 2).take(0), halves(32, 3))
        elif self.source:
            splits = load(self.source)
        else:
            splits = Splits(halves(64, 1), halves(32, 2), halves(32, 3))
        return batches(splits, hp.Choice("batch_size", [32, 64], default=64), seed=self.seed)

    def build(self, hp):
        units = hp.Int("units", 2, 4, default=3)
        rate = hp.Float("rate", 1e-3, 1e-1, sampling="log", default=1e-2)
        cell = hp.Choice("cell", ["max", "mean"], default="max")
        bias = hp.Boolean("bias", default=True)
        signal = keras.Input((None, 1), name="signal")
        pool = keras.layers.GlobalMaxPooling1D() if cell == "max" else keras.layers.GlobalAveragePooling1D()
        x = pool(keras.layers.Conv1D(units, 3, use_bias=bias)(signal))
        model = keras.Model(signal, keras.layers.Dense(1, "sigmoid", name="larger")(x))
        model.compile(keras.optimizers.Adam(rate), "binary_crossentropy", metrics=["accuracy"], jit_compile=False)
        fit = model.fit

        def held(*arguments, callbacks, **options):
            return fit(*arguments, callbacks=[*callbacks, Hold(dict(hp.values))], **options)

        model.fit = held
        return model
'''


@pytest.fixture(autouse=True)
def own_signals(monkeypatch):
    """main() takes SIGTERM for the whole process; and what it sets in the environment."""
    monkeypatch.setenv("COLUMNS", "120")
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def halves(project):
    (project.root / "pipelines").mkdir()
    (project.root / "pipelines" / "halves.py").write_text(PIPELINE)
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


def subprocess_environment():
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def no_search(settings):
    """No state of a search; an empty folder and a lock may lie there."""
    return not [path for path in (settings.root / "searches").glob("*") if path.is_dir()]


def nothing_was_done(settings):
    """No search, no model, and no run of the pipeline."""
    client = mlflow.MlflowClient(settings.tracking_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    assert client.search_runs(experiments) == [] and client.search_registered_models() == []
    assert no_search(settings)
    assert not settings.saved_models.is_dir() or not list(settings.saved_models.iterdir())
    return True


# ---------------------------------------------------------------------------- wrong inputs


@pytest.mark.parametrize("verb", ["tune", "train", "evaluate", "export"])
def test_no_pipeline_file(halves, error, verb):
    assert error(verb, "pipelines/wave.py") == "no pipeline file pipelines/wave.py. In that folder: pipelines/halves.py"
    assert error(verb, "nowhere/wave.py") == "no pipeline file nowhere/wave.py"
    assert error(verb, "pipelines").startswith("no pipeline file pipelines")
    assert nothing_was_done(halves)


@pytest.mark.parametrize(
    "text, line, problem",
    [
        ("import keras\n\nx = (1,\n", 3, "SyntaxError: '(' was never closed"),
        ("import keras\nimport nothing_like_it\n", 2, "ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("x = 1\n\n\ny = x / 0\n", 4, "ZeroDivisionError: division by zero"),
        ("def f():\n    return [][0]\n\n\nf()\n", 2, "IndexError: list index out of range"),
    ],
)
def test_a_file_that_cannot_be_imported_with_the_line_at_fault(halves, error, text, line, problem):
    file = halves.root / "pipelines" / "broken.py"
    file.write_text(text)
    for path in ("pipelines/broken.py", str(file)):
        message = error("tune", path)
        assert f"broken.py:{line}: {problem}" in message
    assert nothing_was_done(halves)


def test_a_file_without_data_or_build(halves, error):
    file = halves.root / "pipelines" / "other.py"
    file.write_text("objective = 'val_loss'\n")
    assert error("tune", str(file)).startswith(f"{file} has no data(hp) and no build(hp): expected a subclass of")
    file.write_text("from keras_dl import Pipeline\n\nclass Mine(Pipeline):\n    def data(self, hp): ...\n")
    assert error("train", str(file)).startswith(f"{file} has no build(hp): ")
    file.rename(halves.root / "pipelines" / "my-model.py")
    assert "a pipeline file is called NAME.py" in error("train", "pipelines/my-model.py")


@pytest.mark.parametrize("verb", ["tune", "train"])
@pytest.mark.parametrize(
    "value, message",
    [
        ("unit=3", "unknown: unit. This pipeline has: batch_size one of 32, 64 (default 64); units from 2 to 4 (whole) "
                   "(default 3); rate from 0.001 to 0.1 (default 0.01); cell one of max, mean (default max); "
                   "bias True or False (default True)"),
        ("units=5", "units=5 is not possible: expected units from 2 to 4 (whole) (default 3)"),
        ("units=2.5", "units=2.5 is not possible: expected units from 2 to 4 (whole)"),
        ("units=many", "units='many' is not possible: expected units from 2 to 4 (whole)"),
        ("rate=0.5", "rate=0.5 is not possible: expected rate from 0.001 to 0.1"),
        ("batch_size=48", "batch_size=48 is not possible: expected batch_size one of 32, 64"),
        ("cell=lstm", "cell='lstm' is not possible: expected cell one of max, mean"),
        ("bias=1", "bias=1 is not possible: expected bias True or False"),
        ("units", "expected name=value, such as learning_rate=0.001. Received: 'units'"),
        ("=3", "expected name=value, such as learning_rate=0.001. Received: '=3'"),
    ],
)  # fmt: skip
def test_a_wrong_name_or_value(halves, error, verb, value, message):
    assert error(verb, "pipelines/halves.py", "rate=0.01", value).startswith(message)
    assert nothing_was_done(halves)


def test_settings_that_are_wrong(halves, error):
    (halves.root / "mlflow.yaml").write_text("tracking: {url: sqlite:///runs.db}\nui: {port: 0}\n")
    for arguments in (["tune", "pipelines/halves.py"], ["list"], ["ui"], ["predict", "halves", "--example", "0"]):
        message = error(*arguments)
        assert message.startswith(f"{halves.root}/mlflow.yaml: unknown key 'tracking.url'; known here: uri, artifacts")
        assert "ui.port: " in message


@pytest.mark.parametrize("verb", [["tune", "pipelines/halves.py"], ["train", "pipelines/halves.py"], ["list"],
                                  ["evaluate", "pipelines/halves.py"], ["export", "pipelines/halves.py"]])  # fmt: skip
def test_a_tracking_server_that_is_not_there(halves, error, verb):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
    (halves.root / "mlflow.yaml").write_text(f"tracking: {{uri: '{uri}'}}")
    began = time.monotonic()
    assert error(*verb).startswith(f"no MLflow server answers at {uri} (ConnectionError): start it, or change")
    assert time.monotonic() - began < 20
    assert no_search(halves)


def test_an_empty_split(halves, error):
    for verb in ("tune", "train"):
        message = error(verb, "pipelines/halves.py", "--data", "empty")
        assert message == "the validation split is empty: a search needs at least one batch in each split"
    assert nothing_was_done(halves)


def test_data_that_are_not_there(halves, error):
    message = error("tune", "pipelines/halves.py", "--data", "tfds:nothing_like_it")
    assert message.startswith("TensorFlow Datasets has no 'nothing_like_it'")
    message = error("train", "pipelines/halves.py", "--data", "digit_string")
    assert "unknown data set 'digit_string': expected one of digit_strings" in message and "tfds:NAME" in message
    assert nothing_was_done(halves)


@pytest.mark.parametrize("verb", ["tune", "train"])
def test_a_place_for_exports_that_cannot_be_written(halves, error, verb):
    halves.saved_models.touch()  # a file in its place; permissions do not stop root
    assert error(verb, "pipelines/halves.py").startswith(f"cannot write to {halves.saved_models}: ")
    halves.saved_models.unlink()
    assert nothing_was_done(halves)


def test_a_port_in_use(halves, error):
    (halves.saved_models / "halves" / "1").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        assert error("serve", "--embedded", "--rest-port", port).startswith(f"cannot listen on 127.0.0.1:{port} (Addr")
        assert error("ui", "--port", port).startswith(f"cannot listen on 127.0.0.1:{port} (Addr")


def test_a_loss_that_is_no_number(halves, error):
    file = halves.root / "pipelines" / "halves.py"
    file.write_text(PIPELINE.replace('"binary_crossentropy"', "lambda target, output: keras.ops.log(-output)"))
    assert error("train", "pipelines/halves.py") == "the training came to nothing: loss is nan in epoch 1"
    client = mlflow.MlflowClient(halves.tracking_uri)
    (run,) = client.search_runs([client.get_experiment_by_name("halves").experiment_id])
    assert run.info.status == "FAILED" and client.search_registered_models() == []


def test_models_that_are_not_there(halves, error):
    assert error("serve", "digits") == f"no model 'digits' in {halves.saved_models}. There is: none"
    assert error("serve").startswith("expected a model to serve and received none")
    (halves.saved_models / "halves").mkdir(parents=True)
    assert error("serve", "halves", "digits").endswith(". There is: halves")
    for what in (["--example", "0"], ["--image", "a.png"], ["--input", "{}"]):
        assert error("predict", "digits", *what).startswith(f"no model 'digits' in {halves.saved_models}: make it with")
    for verb in ("evaluate", "export"):
        assert error(verb, "pipelines/halves.py").startswith("halves has no version 'champion' in the registry. Train")
    assert error("evaluate", "pipelines/halves.py", "--model", "my.keras") == "no model file my.keras"


def test_a_place_for_a_project_that_cannot_be_written(halves, error):
    assert error("init", "pipelines/halves.py").startswith("cannot write pipelines/halves.py/mlflow.yaml: ")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "the following arguments are required: COMMAND"),
        (["tuned", "pipelines/halves.py"], "invalid choice: 'tuned'"),
        (["tune"], "the following arguments are required: FILE"),
        (["tune", "pipelines/halves.py", "--tuner", "annealing"], "invalid choice: 'annealing'"),
        (["tune", "pipelines/halves.py", "--trials", "0"], "--trials: expected a whole number from 1. Received: 0"),
        (["tune", "pipelines/halves.py", "--trials", "six"], "--trials: expected a whole number from 1. Received: six"),
        (["train", "pipelines/halves.py", "--epochs", "1.5"], "expected a whole number from 1. Received: 1.5"),
        (["train", "pipelines/halves.py", "--trials", "3"], "unrecognized arguments: --trials"),
        (["serve", "digits", "--port", "80"], "unrecognized arguments: --port 80"),
        (["train", "pipelines/halves.py", "--seed", "x"], "--seed: expected a whole number from 0 to"),
        (["tune", "pipelines/halves.py", "--seed", "-1"], "whole number from 0 to 2147483647. Received: -1"),
        (["tune", "pipelines/halves.py", "--seed", "2147483648"], "from 0 to 2147483647. Received: 2147483648"),
        (["evaluate", "pipelines/halves.py", "--split", "all"], "invalid choice: 'all'"),
        (["predict", "halves"], "one of the arguments --image --audio --example --input is required"),
        (["predict", "halves", "--image", "a.png", "--example", "1"], "not allowed with argument"),
        (["serve", "--rest-port", "-1"], "expected a port from 1 to 65535. Received: -1"),
        (["serve", "--rest-port", "65536"], "expected a port from 1 to 65535. Received: 65536"),
        (["ui", "--port", "http"], "expected a port from 1 to 65535. Received: http"),
    ],
)  # fmt: skip
def test_what_cannot_be_parsed(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert output.out == "" and message in output.err.splitlines()[-1]


# ---------------------------------------------------------------------------- help, version, and no TensorFlow


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb(verb, capsys):
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    assert caught.value.code == 0
    output = capsys.readouterr().out
    assert output.startswith(f"usage: keras-dl {verb} ")
    # The example can be parsed as it stands.
    (example,) = re.findall(r"^example: keras-dl (.+)$", output, flags=re.MULTILINE)
    assert _parse(shlex.split(example)).command.__name__ == f"_{verb}"


def test_help_of_all(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    output = capsys.readouterr().out
    assert re.findall(r"^    (\w+)  ", output, flags=re.MULTILINE) == VERBS
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
    heavy = {"tensorflow", "keras", "mlflow"} if "--help" in arguments else {"tensorflow", "keras"}
    assert not heavy & set(sys.modules), arguments
"""


def test_help_and_errors_in_arguments_need_no_tensorflow(halves):
    cases = [([verb, "--help"], 0) for verb in VERBS] + [(["--version"], 0), (["tune"], 2), (["serve", "none"], 2)]
    cases += [([verb, "pipelines/none.py"], 2) for verb in ("tune", "train", "evaluate", "export")]
    cases += [(["init", "new"], 0), (["init", "pipelines/halves.py"], 2)]
    command = [sys.executable, "-c", FAST, json.dumps(cases)]
    answer = subprocess.run(command, env=subprocess_environment(), capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


def test_the_module_is_a_program(halves):
    command = [sys.executable, "-m", "keras_dl.cli", "tune", "pipelines/none.py"]
    answer = subprocess.run(command, env=subprocess_environment(), capture_output=True, text=True)
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
def test_values_may_stand_before_and_after_the_options(arguments):
    options = _parse(arguments.split())
    assert (options.pipeline, options.trials, options.seed) == ("a.py", 2, 4)
    assert sorted(options.values) == ["rate=0.1", "units=3"]


@pytest.mark.parametrize("option", ["--held-out-speaker ann", "--held-out-speaker=ann"])
def test_a_value_of_several_words_may_be_written_as_an_option(option):
    options = _parse(["train", "a.py", "units=3", *option.split(), "--epochs", "2", "rate=0.1"])
    assert sorted(options.values) == ["held_out_speaker=ann", "rate=0.1", "units=3"]
    assert options.epochs == 2


# ---------------------------------------------------------------------------- the verbs, one after the other


def test_from_a_file_to_a_prediction(halves, capsys):
    def run(*arguments):
        assert main(list(arguments)) == 0
        return capsys.readouterr().out

    output = run("tune", "pipelines/halves.py", "--trials", "2", "--epochs", "1", "--seed", "3", "units=4", "cell=mean")
    assert "1/2" in output and "2/2" in output and "model  halves version 1, champion" in output
    values = [json.loads(line) for line in (halves.root / "pipelines" / "fits.jsonl").read_text().splitlines()]
    assert [(value["units"], value["cell"]) for value in values] == [(4, "mean")] * 2
    # The same training twice: the second cannot beat the first, so its version is no champion.
    for version in ("2", "3"):
        output = run("train", "pipelines/halves.py", "--epochs", "3", "rate=0.05", "bias=False")
        assert f"halves version {version}, " in output
    assert "version 3, challenger" in output and not (halves.saved_models / "halves" / "3").exists()
    client = mlflow.MlflowClient(halves.tracking_uri)
    params = client.get_run(client.get_model_version("halves", "3").run_id).data.params
    assert (params["rate"], params["bias"], params["epochs"]) == ("0.05", "False", "3")
    output = run("evaluate", "pipelines/halves.py", "--model", "1", "--split", "validation")
    assert output.startswith("halves version 1 on validation: accuracy ")
    assert "exported halves version 3 to" in run("export", "pipelines/halves.py", "--model", "3")
    assert "halves, version 3:" in run("predict", "halves", "--example", "31")
    assert "larger: [" in run("predict", "halves", "--input", '{"signal": [[[1.0], [2.0], [3.0]]]}')
    rows = [line.split() for line in run("list").splitlines()]
    assert [row[1] for row in rows if row and row[0] == "halves"] == ["3", "2", "1"]


def test_a_second_project_is_not_mixed_up_with_the_first(halves, capsys, monkeypatch):
    assert main(["init", "second"]) == 0
    monkeypatch.chdir(halves.root / "second")
    assert main(["list"]) == 0
    assert "no registered models yet" in capsys.readouterr().out
    assert not (halves.root / "second" / "mlflow.db").exists()


# ---------------------------------------------------------------------------- stopped


def test_a_stop_before_the_search(halves, capsys):
    (halves.root / "pipelines" / "stop.py").write_text("raise KeyboardInterrupt")
    for verb, message in (("tune", "the same command goes on from here, --fresh begins anew"), ("train", "stopped")):
        assert main([verb, "pipelines/stop.py"]) == 130
        assert capsys.readouterr().err.strip().endswith(message)


# Where this process was started in the background, its children would ignore Ctrl-C.
START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from keras_dl.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT, signal.SIGKILL]
)
def test_a_search_that_is_stopped_goes_on(halves, capsys, number):
    clean = number != signal.SIGKILL
    folder = halves.root / "pipelines"
    (folder / "hold").touch()
    arguments = ["tune", "pipelines/halves.py", "--seed", "5"]
    command = [sys.executable, "-c", START, *arguments]
    process = subprocess.Popen(
        command, env=subprocess_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 120
        while not (folder / "held").exists():
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()
            time.sleep(0.05)
        process.send_signal(number)
        output, error = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    if clean:
        assert process.returncode == 130
        assert "Traceback" not in error
        assert error.splitlines()[-1] == (
            "stopped. Every finished trial is kept: the same command goes on from here, --fresh begins anew"
        )
    assert "1/3" in output and "2/3" not in output

    client = mlflow.MlflowClient(halves.tracking_uri)
    experiment = client.get_experiment_by_name("halves").experiment_id
    statuses = {run.info.run_name: run.info.status for run in client.search_runs([experiment])}
    end = "KILLED" if clean else "RUNNING"
    assert statuses == {"search-random": end, "trial-1": "FINISHED", "trial-2": end}
    assert client.search_registered_models() == []

    assert main(arguments) == 0
    assert "halves version 1, champion" in capsys.readouterr().out
    statuses = sorted((run.info.run_name, run.info.status) for run in client.search_runs([experiment]))
    names = ["search-random", "trial-1", "trial-2", "trial-3"]
    assert statuses == [(name, "FINISHED") for name in names]
    assert len((folder / "fits.jsonl").read_text().splitlines()) == 4  # the first trial is not run again
