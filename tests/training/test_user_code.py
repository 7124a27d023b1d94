"""Mistakes in a pipeline's file: one line that points to the file, before any trial."""

import re

import keras
import mlflow
import pytest

from keras_dl.cli import main
from keras_dl.errors import UserError, line_of, one_line
from keras_dl.pipeline import load_pipeline
from keras_dl.release import registry
from keras_dl.training.job import check_space
from keras_dl.training.train import train

from ..line import PIPELINE

LOSS, BUILD = '"mse", jit_compile', "    def build(self, hp):\n"
METRIC = '"mse", metrics=[wrong], jit_compile'
COMPILED = r"build\(hp\) of line must return a compiled keras.Model"
RETURN = PIPELINE[PIPELINE.index("return batches(") :].partition("\n")[0]
PYTHON = "tf.py_function(lambda v: {}['b'], [x], tf.float32)"
WRONG = "\n\ndef wrong(y, predicted):\n    raise RuntimeError('my own')\n\n\nclass Line("
MAP = "def broken(x, y):\n    {}\n    return x, y\n\n\ndef line(x):"


def write(root, *changes):
    text = PIPELINE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = root / "pipelines" / "line.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return file, text


def line_with(text, part):
    return next(number for number, line in enumerate(text.splitlines(), start=1) if part in line)


@pytest.mark.parametrize(
    ("changes", "at", "reason"),
    [
        # Keras calls the loss: no line of the file is in the traceback.
        ([("Dense(1,", "Dense(3,"), ("[[x]] * 8))", "[[x, x]] * 8))")], "def build",
         r" \(build\): ValueError: Dimensions must be equal, but are 2 and 3"),
        ([(LOSS, '"sparse_categorical_crossentropy", metrics=[keras.metrics.F1Score()], jit_compile'),
          ("[[x]] * 8))", "[0] * 8))")], "def build", r" \(build\): ValueError: FBetaScore expects 2D inputs"),
        ([(LOSS, METRIC), ("\n\nclass Line(", WRONG)], "raise RuntimeError", ": RuntimeError: my own"),
        ([(BUILD, BUILD + "        1 / 0\n")], "1 / 0", ": ZeroDivisionError: division by zero"),
        ([("        test = ", "        open('nowhere.csv')\n        test = ")], "open(",
         ": FileNotFoundError: No such file or directory: nowhere.csv"),
        ([("        test = ", "        open('.')\n        test = ")], "open(",
         r": IsADirectoryError: Is a directory: \."),
        ([("        test = ", "        {}['a']\n        test = ")], "{}['a']",
         ": KeyError: 'a'"),
        ([("def line(x):", MAP.format("x = tf.reshape(x, [3])")), ("[[x]] * 8))", "[[x]] * 8)).map(broken)")],
         "tf.reshape", ": ValueError: "),
        ([("def line(x):", MAP.format("x = tf.ensure_shape(" + PYTHON + ", [1])")),
          ("[[x]] * 8))", "[[x]] * 8)).map(broken)")], None, "KeyError: 'b'"),
        ([("        return model", "        return None")], None, COMPILED),
        ([("        model.compile(", "        (lambda *a, **b: None)(")], None, COMPILED),
        ([(RETURN, "return line(1.0)")], None, r"data\(hp\) of line must return Splits"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_before_any_run(project, capsys, changes, at, reason):
    file, text = write(project.root, *changes)
    assert main(["train", "pipelines/line.py"]) == 2
    (message,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("keras-dl: ")]
    place = f"pipelines/line.py:{line_with(text, at)}" if at else ""
    assert re.match(f"keras-dl: {re.escape(place)}.*?{reason}", message), message
    assert mlflow.search_runs(search_all_experiments=True, output_format="list") == []


def test_a_mistake_after_the_first_step_points_to_the_file_too(project, capsys):
    callback = (
        "\n    def callbacks(self, hp):\n        return [keras.callbacks.LambdaCallback(on_epoch_end=self.end)]\n"
    )
    callback += "\n    def end(self, epoch, logs):\n        {}[epoch]\n\n    def report("
    file, text = write(project.root, ("\n    def report(", callback))
    assert main(["train", "pipelines/line.py"]) == 2
    assert f"keras-dl: pipelines/line.py:{line_with(text, '{}[epoch]')}: KeyError: 0" in capsys.readouterr().err
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    assert run.info.status == "FAILED" and "Traceback" in mlflow.artifacts.load_text(
        f"{run.info.artifact_uri}/error.txt"
    )


def test_a_mistake_in_the_report_points_to_the_file_and_keeps_the_training(project, capsys):
    file, text = write(project.root, ('{"weight": ', '{"weight": [][0], "w": '))
    assert main(["train", "pipelines/line.py"]) == 2
    assert (
        f"pipelines/line.py:{line_with(text, '[][0]')}: IndexError: list index out of range" in capsys.readouterr().err
    )
    (run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    write(project.root, ("Dense(1,", "Dense(2,"))
    with pytest.raises(
        UserError, match="differs in structure from the one that the pipeline's file builds now: restore"
    ):
        train(load_pipeline(file), {}, project)
    write(project.root)
    pipeline = load_pipeline(file)
    pipeline.callbacks = lambda hp: [keras.callbacks.LambdaCallback(on_epoch_begin=lambda *_: pytest.fail("trained"))]
    capsys.readouterr()
    version = train(pipeline, {}, project)
    assert version.version == 1 and registry.get_version("line", 1).run_id == run.info.run_id
    assert "has changed since its model was trained, which is published now" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    def report(", "    def report(self, model, splits):\n        return {'a': 'b'}\n\n    def kept(",
         r"report(model, splits) of line must return {name: number}. Received: {'a': 'b'}"),
        ("    def pictures(", "    def pictures(self, model, splits):\n        return {'a': 3}\n\n    def kept(",
         r"pictures(model, splits) must return {name: figure or text}. Received: {'a': 3}"),
    ],
)  # fmt: skip
def test_what_report_and_pictures_must_return(project, old, new, message):
    file, _ = write(project.root, (old, new))
    with pytest.raises(UserError, match=re.escape(message)):
        train(load_pipeline(file), {}, project)


def test_labels_out_of_range_point_to_build(project):
    changes = [(LOSS, '"sparse_categorical_crossentropy", jit_compile'), ("[[x]] * 8))", "[7] * 8))")]
    file, text = write(project.root, *changes, ("Dense(1,", "Dense(3,"), (".kernel[0, 0])", ".kernel[0, 0])"))
    pipeline = load_pipeline(file)
    check_space(pipeline, {})  # found only by computing
    with pytest.raises(UserError, match=r"line.py:\d+ \(build\): InvalidArgumentError: Received a label value of 7"):
        train(pipeline, {}, project)


def test_an_error_without_a_line_of_a_pipeline_has_none():
    try:
        {}["a"]
    except KeyError as error:
        assert line_of(error) is None and one_line(error) == "KeyError: 'a'"
