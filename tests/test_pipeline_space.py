"""The search space of a pipeline, and given values."""

import keras
import keras_tuner as kt
import numpy as np
import pytest
import tensorflow as tf

from keras_dl import Pipeline
from keras_dl.data import Splits
from keras_dl.errors import UserError
from keras_dl.space import describe, space


class Spaced(Pipeline):
    """One hyperparameter of each kind, and a minimal model."""

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


class Twice(Spaced):
    """`data` and `build` declare a hyperparameter, with the range of `data` and another one."""

    again = staticmethod(lambda hp: hp.Choice("batch_size", [16, 32], default=32))

    def build(self, hp):
        self.again(hp)
        return super().build(hp)


@pytest.mark.parametrize(
    "again, shown",
    [
        (lambda hp: hp.Choice("batch_size", [16, 64], default=16), "one of 16, 64 .default 16."),
        (lambda hp: hp.Choice("batch_size", [16, 32]), "one of 16, 32 .default 16."),
        (lambda hp: hp.Int("batch_size", 16, 32), "from 16 to 32 .whole. .default 16."),
    ],
)
def test_one_name_with_two_ranges_is_rejected(again, shown):
    pipeline = Twice()
    assert space(pipeline).values["batch_size"] == 32
    pipeline.again = again
    first = "one of 16, 32 .default 32."
    with pytest.raises(UserError, match=f"batch_size is declared with two ranges: batch_size {first}; .*{shown}"):
        space(pipeline)


def test_one_name_may_have_a_range_under_each_condition():
    def again(hp):
        for cell, largest in (("lstm", 4), ("gru", 8)):
            with hp.conditional_scope("cell", [cell]):
                hp.Int("layers", 1, largest)

    class Conditional(Spaced):
        def build(self, hp):
            model = super().build(hp)
            again(hp)
            return model

    assert space(Conditional()).values["layers"] == 1


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
        ("rate", 1e-2),
        ("rate", 0.0005),
        ("dropout", 0.5),
        ("dropout", 0),
        ("bias", False),
        ("depth", 2),
    ],
)
def test_a_value_in_its_range_is_accepted(name, value):
    hp = space(Spaced(), {name: value})
    assert hp.get(name) == value
    assert hp.get("units") == (value if name == "units" else 16)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("batch_size", 24, "batch_size one of 16, 32 (default 32)"),
        ("batch_size", "24", "batch_size one of 16, 32 (default 32)"),
        ("batch_size", True, "batch_size one of 16, 32 (default 32)"),
        ("cell", 3, "cell one of lstm, gru (default lstm)"),
        ("units", 7, "units from 8 to 64 in steps of 8 (whole) (default 16)"),
        ("units", 12, "units from 8 to 64 in steps of 8 (whole) (default 16)"),
        ("units", 16.0, "units from 8 to 64 in steps of 8 (whole) (default 16)"),
        ("units", True, "units from 8 to 64 in steps of 8 (whole) (default 16)"),
        ("units", "many", "units from 8 to 64 in steps of 8 (whole) (default 16)"),
        ("rate", 0.1, "rate from 0.0001 to 0.01 (default 0.001)"),
        ("rate", "fast", "rate from 0.0001 to 0.01 (default 0.001)"),
        ("rate", float("nan"), "rate from 0.0001 to 0.01 (default 0.001)"),
        ("dropout", 0.3, "dropout from 0.0 to 0.5 in steps of 0.25 (default 0.0)"),
        ("bias", 1, "bias True or False (default True)"),
        ("depth", "deep", "depth fixed, not searched (default 2)"),
        ("depth", True, "depth fixed, not searched (default 2)"),
    ],
)
def test_the_error_for_an_invalid_value_contains_the_range(name, value, expected):
    with pytest.raises(UserError) as caught:
        space(Spaced(), {name: value})
    assert str(caught.value) == f"{name}={value} is invalid: expected {expected}"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("batch_size=16", 16), ("batch_size=1.6e1", 16), ("units=64", 64), ("units=6.4e1", 64), ("units= 64 ", 64),
        ("rate=0.001", 0.001), ("rate=1e-3", 0.001), ("dropout=0", 0.0), ("bias=false", False), ("bias=FALSE", False),
        ("bias=0", False), ("bias=true", True), ("cell=gru", "gru"), ("cell='gru'", "gru"), ('cell="gru"', "gru"),
        ("depth=3", 3), ("kernel=3", "3"), ("kernel=True", "True"), ("kernel='3'", "3"), ("padded=true", 1),
        ("label=007", "007"), ("label=1e3", "1e3"), ("label='a b'", "a b"), ("scale=2", 2.0), ("low-pass=3", 3),
        ("units[0]=3", 3), ("encoder/units=3", 3), ("keep (%)=50", 50),
    ],
)  # fmt: skip
def test_text_is_read_as_the_type_of_its_hyperparameter(text, value):
    class More(Spaced):
        def build(self, hp):
            hp.Choice("kernel", ["3", "True"], default="True")
            hp.Choice("padded", [True, False], default=False)
            hp.Fixed("label", "none")
            hp.Choice("scale", [1.0, 2.0])
            hp.Int("low-pass", 1, 3)
            hp.Int("units[0]", 1, 3)
            hp.Int("keep (%)", 10, 50)
            with hp.name_scope("encoder"):
                hp.Int("units", 1, 3)
            return Spaced.build(self, hp)

    name, _, typed = text.partition("=")
    found = space(More(), {name: typed})
    assert found.values[name] == value and type(found.values[name]) is type(value)
    assert found.given == {name: value}


def test_an_option_with_underscores_is_a_name_with_hyphens():
    pipeline = Spaced()
    pipeline.data = lambda hp: (hp.Int("low-pass", 1, 3), Spaced.data(pipeline, hp))[1]
    assert space(pipeline, {"low_pass": "3"}).given == {"low-pass": 3}


def test_fixed_values_can_be_given_and_are_not_searched():
    hp = space(Spaced(), {"depth": 3})
    assert hp.get("depth") == 3
    assert [entry.name for entry in hp.space if type(entry).__name__ == "Fixed"] == ["depth"]


def test_a_condition_adds_and_removes_a_part_of_the_space():
    assert space(Spaced(), {"cell": "gru"}).get("resets") == 1
    assert space(Spaced(), {"cell": "gru", "resets": 3}).get("resets") == 3
    with pytest.raises(UserError, match="resets=4 is invalid: expected resets from 1 to 3"):
        space(Spaced(), {"cell": "gru", "resets": 4})
    with pytest.raises(UserError, match="unknown hyperparameter: resets"):
        space(Spaced(), {"resets": 3})


def test_the_error_for_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError) as caught:
        space(Spaced(), {"unit": 3, "rat": 1})
    message = str(caught.value)
    assert message.startswith(
        "unknown hyperparameter: rat, unit. This pipeline has: batch_size one of 16, 32 (default 32); cell one of"
    )
    for name in ("units", "rate", "dropout", "bias", "depth"):
        assert f"; {name} " in message


def test_a_pipeline_without_hyperparameters_has_none():
    pipeline = Spaced()
    pipeline.data = lambda hp: Spaced.data(pipeline, kt.HyperParameters())
    pipeline.build = lambda hp: Spaced.build(pipeline, kt.HyperParameters())
    with pytest.raises(UserError, match="unknown hyperparameter: rate. This pipeline has: none"):
        space(pipeline, {"rate": 1})


def test_the_error_for_a_name_of_another_choice_says_so():
    pipeline = Spaced()
    pipeline.build = lambda hp: hp.Int("filters", 2, 4) if hp.Choice("kind", ["rnn", "cnn"]) == "cnn" else None
    pipeline.build = lambda hp, extra=pipeline.build: (extra(hp), Spaced.build(pipeline, hp))[1]
    with pytest.raises(UserError, match="filters. This pipeline has: .* Others may depend on their values: give"):
        space(pipeline, {"filters": 3})
    assert space(pipeline, {"filters": 3, "kind": "cnn"}).values["filters"] == 3


@pytest.mark.parametrize("default", [1, 9, 2.5])
def test_a_default_outside_its_range_is_rejected(default):
    pipeline = Spaced()
    kind = "Int" if isinstance(default, int) else "Float"
    pipeline.data = lambda hp: (getattr(hp, kind)("size", 4, 8, default=default), Spaced.data(pipeline, hp))[1]
    with pytest.raises(UserError, match=f"the default of size must be in its range. Received: .*default {default}"):
        space(pipeline)


@pytest.mark.parametrize(("sizes", "name"), [((0, 1, 1), "train"), ((1, 0, 1), "validation"), ((1, 1, 0), "test")])
def test_an_empty_split_is_reported_by_name(sizes, name):
    pipeline = Spaced()
    pipeline.sizes = sizes
    with pytest.raises(UserError, match=f"the {name} split is empty"):
        space(pipeline)


@pytest.mark.parametrize(
    ("built", "received"),
    [
        (lambda: None, "None"),
        (lambda: 7, "7"),
        (lambda: keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]), "a model that is not compiled"),
        (lambda: keras.layers.Dense(1), "<Dense "),
    ],
)
def test_build_must_return_a_compiled_model(built, received):
    pipeline = Spaced()
    pipeline.name, pipeline.build = "mine", lambda hp: built()
    message = rf"build\(hp\) of mine must return a compiled keras.Model. Received: {received}"
    with pytest.raises(UserError, match=message):
        space(pipeline)


@pytest.mark.parametrize("made", [None, (1, 2, 3)])
def test_data_must_return_splits(made):
    pipeline = Spaced()
    pipeline.name, pipeline.data = "mine", lambda hp: made
    with pytest.raises(UserError, match=rf"data\(hp\) of mine must return Splits. Received: {type(made).__name__}"):
        space(pipeline)


def test_hyperparameters_are_described_with_their_range():
    hp = kt.HyperParameters()
    hp.Int("plain", 1, 3)
    assert describe(hp.space[0]) == "plain from 1 to 3 (whole) (default 1)"
