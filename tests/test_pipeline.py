"""Pipelines: found in files, with their search space, and errors of one line."""

import importlib.resources
import textwrap

import keras
import keras_tuner as kt
import numpy as np
import pytest
import tensorflow as tf

from keras_dl import Pipeline
from keras_dl.data import Splits
from keras_dl.errors import UserError
from keras_dl.pipeline import describe, load_pipeline, space

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


# load_pipeline


def test_a_file_with_one_class_is_that_pipeline(write):
    pipeline = load_pipeline(str(write(CLASS)))
    assert isinstance(pipeline, Pipeline)
    assert (pipeline.name, pipeline.data(None), pipeline.build(None)) == ("mine", 1, 2)
    assert pipeline.file.name == "mine.py" and pipeline.file.is_absolute()


def test_a_class_that_was_imported_is_not_the_files_own(write):
    pipeline = load_pipeline(write(CLASS + "\nfrom keras_dl.pipeline import Pipeline as Other"))
    assert type(pipeline).__name__ == "One"


def test_data_and_build_may_come_from_a_base(write):
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


def test_a_bare_module_is_a_pipeline(write):
    pipeline = load_pipeline(write(BARE))
    assert (pipeline.name, pipeline.epochs, pipeline.trials) == ("mine", 3, Pipeline.trials)
    assert pipeline.goal == ("accuracy", "max")
    assert pipeline.answer((1, 2)) == "one of 2"
    hp = space(pipeline)
    assert hp.values == {"batch_size": 2}
    assert pipeline.build(hp).compiled


def test_the_starter_is_a_pipeline():
    with importlib.resources.as_file(importlib.resources.files("keras_dl") / "starter" / "waves.py") as path:
        pipeline = load_pipeline(path)
    hp = space(pipeline)
    assert pipeline.goal == ("accuracy", "max")
    assert set(hp.values) == {"batch_size", "units", "dropout", "learning_rate"}
    signal, square = next(iter(pipeline.data(hp).test))
    assert (signal.shape[1:], square.shape[1:]) == ((50, 1), (1,))
    assert pipeline.build(hp)(signal).shape == square.shape


def test_a_missing_file_lists_those_beside_it(write, tmp_path):
    write(CLASS, "other.py")
    with pytest.raises(UserError, match=r"no pipeline file .*mine.py. In that folder: .*other.py$"):
        load_pipeline(tmp_path / "mine.py")
    with pytest.raises(UserError, match=r"no pipeline file .*nowhere/mine.py$"):
        load_pipeline(tmp_path / "nowhere" / "mine.py")
    with pytest.raises(UserError, match="no pipeline file"):
        load_pipeline(tmp_path)


@pytest.mark.parametrize("name", ["my-digits.py", "2digits.py", "digits.txt", "my digits.py"])
def test_the_name_of_the_file_must_serve_everywhere(name, write):
    with pytest.raises(UserError, match=f"called NAME.py.*Received: {name}"):
        load_pipeline(write(CLASS, name))


def test_a_syntax_error_is_told_with_its_line(write):
    with pytest.raises(UserError, match=r"mine.py:3: SyntaxError: "):
        load_pipeline(write("x = 1\ny = 2\nz = = 3\n"))


@pytest.mark.parametrize("relative", [False, True])
def test_an_error_of_the_import_is_told_with_its_line(relative, write, monkeypatch, tmp_path):
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


def test_a_user_error_of_the_file_stays_as_it_is(write):
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
def test_a_file_without_data_or_build_says_what_is_missing(text, missing, write):
    with pytest.raises(UserError, match=rf"mine.py has {missing}: expected a subclass"):
        load_pipeline(write(text))


def test_two_pipelines_in_a_file_are_one_too_many(write):
    with pytest.raises(UserError, match="holds 2 pipelines; expected one"):
        load_pipeline(write(CLASS + CLASS.replace("One", "Two")))


# goal


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
    assert pipeline.goal == goal


@pytest.mark.parametrize("extra", ["objective = 'val_something'", "objective, direction = 'val_loss', 'down'"])
def test_an_unknown_direction_is_told_before_any_work(extra, write):
    with pytest.raises(UserError, match="should fall or rise: set direction = 'min' or 'max'"):
        load_pipeline(write("def data(hp): ...\ndef build(hp): ...\n" + extra))


# space


class Spaced(Pipeline):
    """One hyperparameter of each kind; the model is the smallest there is."""

    sizes = (2, 2, 2)

    def data(self, hp):
        hp.Choice("batch_size", [16, 32], default=32)
        rows = tf.data.Dataset.from_tensor_slices((np.ones([2, 2]), np.ones([2, 1]))).batch(2)
        return Splits(*(rows.take(size) for size in self.sizes))

    def build(self, hp):
        hp.Choice("cell", ["lstm", "gru"])
        hp.Int("units", 8, 64, step=8, default=16)
        hp.Float("rate", 1e-4, 1e-2, sampling="log", default=1e-3)
        hp.Float("dropout", 0.0, 0.5, step=0.25)
        hp.Boolean("bias", default=True)
        hp.Fixed("depth", 2)
        with hp.conditional_scope("cell", ["gru"]):
            if hp.get("cell") == "gru":
                hp.Int("resets", 1, 3)
        model = keras.Sequential([keras.Input((2,), name="pair"), keras.layers.Dense(1, name="one")])
        model.compile("sgd", "mse")
        return model


def test_a_space_has_the_defaults():
    hp = space(Spaced())
    assert hp.values == {
        "batch_size": 32,
        "cell": "lstm",
        "units": 16,
        "rate": 1e-3,
        "dropout": 0.0,
        "bias": True,
        "depth": 2,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 16),
        ("cell", "gru"),
        ("units", 8),
        ("units", 64),
        ("rate", 1e-2),
        ("rate", 0.0005),
        ("dropout", 0.5),
        ("dropout", 0.25),
        ("dropout", 0),
        ("bias", False),
        ("depth", 2),
    ],
)
def test_a_value_in_its_range_is_taken(name, value):
    hp = space(Spaced(), {name: value})
    assert hp.get(name) == value
    assert hp.get("units") == (value if name == "units" else 16)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("batch_size", 24, "batch_size one of 16, 32 (default 32)"),
        ("batch_size", "32", "batch_size one of 16, 32 (default 32)"),
        ("batch_size", True, "batch_size one of 16, 32 (default 32)"),
        ("cell", "rnn", "cell one of lstm, gru (default lstm)"),
        ("cell", 3, "cell one of lstm, gru (default lstm)"),
        ("units", 7, "units from 8 to 64 in steps of 8 (whole) (default 16)"),
        ("units", 65, "units from 8 to 64 in steps of 8 (whole) (default 16)"),
        ("units", 12, "units from 8 to 64 in steps of 8 (whole) (default 16)"),
        ("units", 16.0, "units from 8 to 64 in steps of 8 (whole) (default 16)"),
        ("units", True, "units from 8 to 64 in steps of 8 (whole) (default 16)"),
        ("units", "many", "units from 8 to 64 in steps of 8 (whole) (default 16)"),
        ("rate", 0.1, "rate from 0.0001 to 0.01 (default 0.001)"),
        ("rate", -1e-3, "rate from 0.0001 to 0.01 (default 0.001)"),
        ("rate", "fast", "rate from 0.0001 to 0.01 (default 0.001)"),
        ("rate", float("nan"), "rate from 0.0001 to 0.01 (default 0.001)"),
        ("dropout", 0.3, "dropout from 0.0 to 0.5 in steps of 0.25 (default 0.0)"),
        ("dropout", 0.75, "dropout from 0.0 to 0.5 in steps of 0.25 (default 0.0)"),
        ("bias", 1, "bias True or False (default True)"),
        ("bias", "yes", "bias True or False (default True)"),
        ("depth", "deep", "depth as given, never searched (default 2)"),
        ("depth", True, "depth as given, never searched (default 2)"),
    ],
)
def test_a_value_that_is_not_possible_gets_the_range(name, value, expected):
    with pytest.raises(UserError) as caught:
        space(Spaced(), {name: value})
    assert str(caught.value) == f"{name}={value!r} is not possible: expected {expected}"


def test_what_is_fixed_can_be_given_and_is_not_searched():
    hp = space(Spaced(), {"depth": 3})
    assert hp.get("depth") == 3
    assert [entry.name for entry in hp.space if type(entry).__name__ == "Fixed"] == ["depth"]


def test_a_condition_opens_and_closes_a_part_of_the_space():
    assert space(Spaced(), {"cell": "gru"}).get("resets") == 1
    assert space(Spaced(), {"cell": "gru", "resets": 3}).get("resets") == 3
    with pytest.raises(UserError, match="resets=4 is not possible: expected resets from 1 to 3"):
        space(Spaced(), {"cell": "gru", "resets": 4})
    with pytest.raises(UserError, match="unknown: resets"):
        space(Spaced(), {"resets": 3})


def test_an_unknown_name_gets_all_that_are_known():
    with pytest.raises(UserError) as caught:
        space(Spaced(), {"unit": 3, "rat": 1})
    message = str(caught.value)
    assert message.startswith(
        "unknown: rat, unit. This pipeline has: batch_size one of 16, 32 (default 32); cell one of"
    )
    for name in ("units", "rate", "dropout", "bias", "depth"):
        assert f"; {name} " in message


def test_a_pipeline_without_hyperparameters_has_none(write):
    text = BARE.replace('hp.Int("batch_size", 1, 4, default=2)', "2")
    with pytest.raises(UserError, match="unknown: rate. This pipeline has: none"):
        space(load_pipeline(write(text)), {"rate": 1})


@pytest.mark.parametrize(("sizes", "name"), [((0, 1, 1), "train"), ((1, 0, 1), "validation"), ((1, 1, 0), "test")])
def test_an_empty_split_is_told_by_name(sizes, name):
    pipeline = Spaced()
    pipeline.sizes = sizes
    with pytest.raises(UserError, match=f"the {name} split is empty"):
        space(pipeline)


@pytest.mark.parametrize(
    "built", ["None", "7", "keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])", "keras.layers.Dense(1)"]
)
def test_build_must_return_a_compiled_model(built, write):
    text = BARE[: BARE.index("    model =")] + f"    return {built}\n"
    with pytest.raises(UserError, match=r"build\(hp\) of mine must return a compiled keras.Model. Received:"):
        space(load_pipeline(write(text)))


def test_hyperparameters_are_described_with_their_range():
    hp = kt.HyperParameters()
    hp.Int("plain", 1, 3)
    assert describe(hp.space[0]) == "plain from 1 to 3 (whole) (default 1)"


# what is served


def served(model, *arrays):
    function, inputs = Pipeline().signatures(model)["serving_default"]
    graph = tf.function(function, input_signature=inputs)
    return [spec.name for spec in inputs], graph(*arrays)


def pair_model():
    pair = keras.Input((2,), name="pair")
    return keras.Model(pair, keras.layers.Dense(1, name="one")(pair))


@pytest.mark.parametrize("build", [pair_model, lambda: Spaced().build(kt.HyperParameters())])  # which is Sequential
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


def test_the_default_signature_does_not_train():
    pair = keras.Input((2,), name="pair")
    _, outputs = served(keras.Model(pair, keras.layers.Dropout(0.9, name="dropped")(pair)), np.ones([5, 2], "float32"))
    np.testing.assert_array_equal(outputs["dropped"], 1)


def test_what_a_pipeline_need_not_say():
    pipeline = Pipeline()
    request = pipeline.request((tf.constant([1.0, 2.0]), tf.constant(0)))
    assert request[""].tolist() == [[1.0, 2.0]]
    assert pipeline.answer(None) is None
    assert pipeline.report(None, None) == pipeline.pictures(None, None) == {}
    for method in (pipeline.data, pipeline.build):
        with pytest.raises(NotImplementedError):
            method(None)
