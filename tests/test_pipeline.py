"""Loading pipelines from files: classes, plain modules, settings, and one-line errors."""

import hashlib
import importlib.resources
import textwrap

import pytest

from keras_dl import Pipeline
from keras_dl.errors import UserError
from keras_dl.pipeline import load_pipeline
from keras_dl.space import space

BARE = """
import keras
from keras_dl.data import Splits
import tensorflow as tf

objective = "val_accuracy"
epochs = 3

def data(hp):
    rows = tf.data.Dataset.from_tensor_slices((tf.ones([4, 2]), tf.ones([4, 1])))
    return Splits(*(rows.batch(hp.Int("batch_size", 1, 4, default=2)) for _ in range(3)))

def build(hp):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model

def answer(example):
    return f"one of {len(example)}"
"""

CLASS = """
from keras_dl import Pipeline

class One(Pipeline):
    def data(self, hp): return 1
    def build(self, hp): return 2
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="mine.py"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write


def test_a_file_with_one_class_is_loaded(write):
    pipeline = load_pipeline(str(write(CLASS)))
    assert isinstance(pipeline, Pipeline)
    assert (pipeline.name, pipeline.data(None), pipeline.build(None)) == ("mine", 1, 2)
    assert pipeline.file.name == "mine.py" and pipeline.file.is_absolute()


def test_an_imported_class_is_ignored(write):
    pipeline = load_pipeline(write(CLASS + "\nfrom keras_dl.pipeline import Pipeline as Other"))
    assert type(pipeline).__name__ == "One"


def test_data_and_build_may_be_inherited(write):
    write(CLASS, "base_of_mine.py")
    text = """
    import sys
    from pathlib import Path
    sys.path.insert(0, str(Path(__file__).parent))
    from base_of_mine import One
    sys.path.pop(0)

    class Two(One):
        def build(self, hp): return 3
    """
    pipeline = load_pipeline(write(text))
    assert (pipeline.data(None), pipeline.build(None)) == (1, 3)


def test_a_plain_module_is_a_pipeline(write):
    pipeline = load_pipeline(write(BARE))
    assert (pipeline.name, pipeline.epochs, pipeline.trials) == ("mine", 3, Pipeline.trials)
    assert pipeline.goal.test_metric == ("accuracy", "max")
    assert pipeline.answer((1, 2)) == "one of 2"
    hp = space(pipeline)
    assert hp.values == {"batch_size": 2}
    assert pipeline.build(hp).compiled


def test_the_starter_is_a_pipeline():
    with importlib.resources.as_file(importlib.resources.files("keras_dl") / "starter" / "waves.py") as path:
        pipeline = load_pipeline(path)
    hp = space(pipeline)
    assert pipeline.goal.test_metric == ("accuracy", "max")
    assert set(hp.values) == {"batch_size", "units", "dropout", "learning_rate"}
    signal, square = next(iter(pipeline.data(hp).test))
    assert (signal.shape[1:], square.shape[1:]) == ((50, 1), (1,))
    assert pipeline.build(hp)(signal).shape == square.shape


def test_the_error_for_a_missing_file_lists_other_files(write, tmp_path):
    write(CLASS, "other.py")
    with pytest.raises(UserError, match=r"no pipeline file .*mine.py. In that folder: .*other.py$"):
        load_pipeline(tmp_path / "mine.py")
    with pytest.raises(UserError, match=r"no pipeline file .*nowhere/mine.py$"):
        load_pipeline(tmp_path / "nowhere" / "mine.py")
    with pytest.raises(UserError, match="no pipeline file"):
        load_pipeline(tmp_path)


@pytest.mark.parametrize("name", ["my-digits.py", "2digits.py", "digits.txt", "my digits.py"])
def test_the_file_name_must_be_an_identifier(name, write):
    with pytest.raises(UserError, match=f"expected a pipeline file NAME.py.*Received: {name}"):
        load_pipeline(write(CLASS, name))


def test_a_syntax_error_is_reported_with_its_line(write):
    with pytest.raises(UserError, match=r"mine.py:3: SyntaxError: "):
        load_pipeline(write("x = 1\ny = 2\nz = = 3\n"))


@pytest.mark.parametrize("relative", [False, True])
def test_an_import_error_is_reported_with_its_line(relative, write, monkeypatch, tmp_path):
    path = write("import json\n\ndef f():\n    return json.loads('nothing')\n\nx = f()\n")
    if relative:
        monkeypatch.chdir(tmp_path)
        path = path.name
    with pytest.raises(UserError, match=r"mine.py:4: JSONDecodeError: ") as caught:
        load_pipeline(path)
    assert "\n" not in str(caught.value)
    write("import no_such_module_at_all\n")
    with pytest.raises(UserError, match=r"mine.py:1: ModuleNotFoundError: .*no_such_module_at_all"):
        load_pipeline(path)


def test_a_user_error_in_the_file_is_unchanged(write):
    with pytest.raises(UserError, match="^do that first$"):
        load_pipeline(write("from keras_dl.errors import UserError\nraise UserError('do that first')\n"))


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("x = 1", r"no data\(hp\) and no build\(hp\)"),
        ("def data(hp): ...", r"no build\(hp\)"),
        ("def build(hp): ...", r"no data\(hp\)"),
        ("data = build = 3", r"no data\(hp\) and no build\(hp\)"),
        ("from keras_dl import Pipeline", r"no data\(hp\) and no build\(hp\)"),
        ("from keras_dl import Pipeline\nclass A(Pipeline):\n    def data(self, hp): ...", r"no build\(hp\)"),
    ],
)
def test_missing_functions_are_reported(text, missing, write):
    with pytest.raises(UserError, match=rf"mine.py has {missing}: expected a subclass"):
        load_pipeline(write(text))


def test_a_file_with_two_pipelines_is_rejected(write):
    with pytest.raises(UserError, match="contains 2 pipelines; expected one"):
        load_pipeline(write(CLASS + CLASS.replace("One", "Two")))


@pytest.mark.parametrize(
    ("objective", "direction", "goal"),
    [
        ("val_loss", None, ("loss", "min")),
        ("val_label_error_rate", None, ("label_error_rate", "min")),
        ("val_bits_per_character", None, ("bits_per_character", "min")),
        ("val_mae", None, ("mae", "min")),
        ("val_accuracy", None, ("accuracy", "max")),
        ("val_bleu_score", None, ("bleu_score", "max")),
        ("loss", None, ("loss", "min")),
        ("val_accuracy", "min", ("accuracy", "min")),
        ("val_something", "max", ("something", "max")),
    ],
)
def test_the_direction_follows_from_the_name_unless_given(objective, direction, goal):
    pipeline = Pipeline()
    pipeline.objective, pipeline.direction = objective, direction
    assert pipeline.goal.test_metric == goal


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("objective = 'val_something'", "of 'val_something': set direction = 'min' or 'max'"),
        ("objective = 'val_loss,val_something'", "cannot infer the direction of 'val_something'"),
        ("objective, direction = 'val_loss', 'down'", "direction must be one of None, min, max. Received: 'down'"),
        ("objective = 'val_loss:-1'", "expected NAME:WEIGHT"),
    ],
)
def test_an_invalid_objective_is_reported_before_any_work(extra, message, write):
    with pytest.raises(UserError, match=message):
        load_pipeline(write("def data(hp): ...\ndef build(hp): ...\n" + extra))


def test_the_first_metric_is_used_where_one_is_needed():
    pipeline = Pipeline()
    pipeline.objective = "val_accuracy,val_loss:0.1"
    assert pipeline.goal.test_metric == ("accuracy", "max")
    assert (pipeline.goal.name, pipeline.goal.direction) == ("objective", "min")
    assert pipeline.goal.directions == {"val_accuracy": "max", "val_loss": "min"}
    pipeline.direction = "min"  # of the first
    assert pipeline.goal.directions == {"val_accuracy": "min", "val_loss": "min"}


SETTINGS = {
    "objective": "val_gain:max",
    "direction": None,
    "epochs": 4,
    "seed": 7,
    "trials": 2,
    "source": "mine.csv",
    "precision": "mixed_bfloat16",
    "strategy": "mirrored",
    "jit": "on",
    "deterministic": True,
    "nan_patience": 3,
}


def test_a_plain_module_may_define_every_setting(write):
    assert SETTINGS.keys() == Pipeline.__annotations__.keys() - {"name", "file", "custom_objects"}
    text = "\n".join(f"{name} = {value!r}" for name, value in SETTINGS.items())
    functions = "\ndef data(hp): ...\ndef build(hp): ...\ndef callbacks(hp): return [hp]\n"
    pipeline = load_pipeline(write(text + functions))
    assert {name: getattr(pipeline, name) for name in SETTINGS} == SETTINGS
    assert pipeline.callbacks(5) == [5]


def test_the_digest_depends_on_the_file(write):
    pipeline = load_pipeline(write(CLASS))
    digest = pipeline.digest
    assert digest == hashlib.sha256(pipeline.file.read_bytes()).hexdigest()
    write(CLASS + "\n# changed\n")
    assert pipeline.digest != digest
