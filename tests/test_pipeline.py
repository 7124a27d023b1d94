"""Loading pipelines from files: classes, plain modules, settings, and one-line errors."""

import hashlib
import importlib.resources
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

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


def test_a_file_that_exits_is_reported_with_its_line(write):
    with pytest.raises(UserError, match=r"mine.py:2: SystemExit: done$"):
        load_pipeline(write("import sys\nsys.exit('done')\n"))


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
    assert SETTINGS.keys() == Pipeline.__annotations__.keys() - {"name", "file", "modules", "custom_objects"}
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


def served(model, *arrays):
    function, inputs = Pipeline().signatures(model)["serving_default"]
    graph = tf.function(function, input_signature=inputs)
    return [spec.name for spec in inputs], graph(*arrays)


def sequential_model():
    return keras.Sequential([keras.Input((2,), name="pair"), keras.layers.Dense(1, name="one")])


def pair_model():
    pair = keras.Input((2,), name="pair")
    return keras.Model(pair, keras.layers.Dense(1, name="one")(pair))


@pytest.mark.parametrize("build", [pair_model, sequential_model])
def test_the_default_signature_has_the_names_of_the_model(build):
    model = build()
    rows = np.ones([3, 2], "float32")
    names, outputs = served(model, rows)
    assert names == ["pair"]
    assert list(outputs) == ["one"]
    np.testing.assert_allclose(outputs["one"], model(rows), rtol=1e-6)


def test_several_inputs_and_outputs_keep_their_names():
    first, second = keras.Input((None, 2), name="first"), keras.Input((3,), dtype="int32", name="second")
    total = keras.layers.GlobalAveragePooling1D(name="mean")(first)
    doubled = keras.layers.Rescaling(2.0, name="doubled")(second)
    arrays = np.arange(8, dtype="float32").reshape(1, 4, 2), np.array([[1, 2, 3]], "int32")
    for outputs in ([total, doubled], {"mean": total, "doubled": doubled}):
        names, found = served(keras.Model([first, second], outputs), *arrays)
        assert names == ["first", "second"]
        np.testing.assert_allclose(found["mean"], [[3, 4]])
        np.testing.assert_allclose(found["doubled"], [[2, 4, 6]])


def auto_named(kind):
    row = keras.Input((2,))
    layer = keras.layers.BatchNormalization()
    if kind == "sequential":
        return keras.Sequential([row, layer])
    if kind == "nested":
        return keras.Model(row, keras.Sequential([layer])(row))
    return keras.Model(row, keras.ops.relu(layer(row)) if kind == "operation" else layer(row))


@pytest.mark.parametrize("kind", ["functional", "sequential", "nested", "operation"])
def test_names_do_not_depend_on_the_models_that_were_built_before(kind, tmp_path):
    for model in (auto_named(kind), auto_named(kind)):
        names, outputs = served(model, np.ones([3, 2], "float32"))
        assert (names, list(outputs)) == (["input"], ["output"])
    model.save(tmp_path / "model.keras")
    names, outputs = served(keras.models.load_model(tmp_path / "model.keras"), np.ones([3, 2], "float32"))
    assert (names, list(outputs)) == (["input"], ["output"])


def test_several_generated_names_are_numbered():
    rows = [keras.Input((2,)), keras.Input((2,), name="input_1"), keras.Input((2,))]
    dense, named = keras.layers.Dense(1), keras.layers.Dense(1, name="dense_level")
    model = keras.Model(rows, [dense(rows[0]), named(rows[1]), dense(rows[2])])
    arrays = [np.full([3, 2], value, "float32") for value in (1, 2, 3)]
    names, outputs = served(model, *arrays)
    assert names == ["input_2", "input_1", "input_3"]
    assert list(outputs) == ["output_1", "dense_level", "output_2"]
    for found, expected in zip(outputs.values(), model(arrays), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_default_signature_does_not_train():
    pair = keras.Input((2,), name="pair")
    _, outputs = served(keras.Model(pair, keras.layers.Dropout(0.9, name="dropped")(pair)), np.ones([5, 2], "float32"))
    np.testing.assert_array_equal(outputs["dropped"], 1)


def test_optional_methods_have_defaults():
    pipeline = Pipeline()
    request = pipeline.request((tf.constant([1.0, 2.0]), tf.constant(0)))
    assert request[""].tolist() == [[1.0, 2.0]]
    assert pipeline.answer(None) is None and pipeline.callbacks(None) == []
    assert pipeline.report(None, None) == pipeline.pictures(None, None) == {}
    for method in (pipeline.data, pipeline.build):
        with pytest.raises(NotImplementedError):
            method(None)


def test_the_default_request_has_the_names_of_the_inputs():
    pipeline = Pipeline()
    pipeline.name = "mine"
    request = pipeline.request(({"left": tf.constant([1.0]), "right": tf.constant(2)}, 0))
    assert {name: array.tolist() for name, array in request.items()} == {"left": [[1.0]], "right": [2]}
    with pytest.raises(UserError, match=r"mine has several unnamed inputs: implement request\(example\)"):
        pipeline.request(((tf.constant(1), tf.constant(2)), 0))


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


@pytest.mark.parametrize("build", [Subclassed, lambda: keras.Sequential([keras.layers.Dense(1)])], ids=["sub", "seq"])
def test_a_model_without_known_inputs_is_reported(build):
    message = r"begin a Sequential with keras.Input\(...\), or implement signatures\(model\)$"
    with pytest.raises(UserError, match=message):
        Pipeline().signatures(build())
