"""Checks, before training, of how a model changes when it is saved and loaded."""

import keras
import numpy as np
import pytest

from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline
from keras_dl.training.saved import check_saved

INPUTS = np.ones((1, 2), "float32")


class Table:
    by = 2.0


class Scale(keras.layers.Layer):
    """A layer without `get_config` whose argument cannot be serialized."""

    def __init__(self, table, **options):
        super().__init__(**options)
        self.table = table

    def call(self, inputs):
        return inputs * self.table.by


class Forgets(keras.layers.Layer):
    """A layer whose `get_config` leaves out an argument."""

    def __init__(self, by=1.0, **options):
        super().__init__(**options)
        self.by = by

    def call(self, inputs):
        return inputs * self.by

    def get_config(self):
        return super().get_config()


class Keeps(Forgets):
    """A layer that can be saved."""

    def get_config(self):
        return {**super().get_config(), "by": self.by}


class Fails(Keeps):
    """A layer whose constructor does not take its own configuration."""

    def get_config(self):
        return {**super().get_config(), "units": 3}


def pipeline(*classes):
    made = Pipeline()
    made.name, made.custom_objects = "waves", {kind.__name__: kind for kind in classes}
    return made


def model(layer, loss="mse"):
    inputs = keras.Input((2,))
    made = keras.Model(inputs, keras.layers.Dense(1)(layer(inputs)))
    made.compile("adam", loss)
    return made


@pytest.mark.parametrize(
    "layer, message",
    [
        (lambda: Scale(Table(), name="by"), r"layer by \(Scale\) of waves could not be saved .* implement get_config"),
        (lambda: Fails(2.0, name="by"), r"layer by \(Fails\) of waves could not be loaded after training: .*units"),
        (lambda: Forgets(2.0), "different outputs after it was saved and loaded: get_config of Forgets must contain"),
        (lambda: keras.Sequential([keras.Input((2,)), Scale(Table(), name="by")]), r"layer by \(Scale\)"),
    ],
)
def test_a_layer_that_cannot_be_saved_or_loaded_is_named(layer, message):
    with pytest.raises(UserError, match=message):
        check_saved(pipeline(Scale, Forgets, Fails), model(layer()), INPUTS)


def test_a_class_that_the_pipeline_does_not_know_is_named():
    with pytest.raises(UserError, match=r"\(Keeps\) of waves could not be loaded .*Could not locate class .Keeps"):
        check_saved(pipeline(), model(Keeps(2.0)), INPUTS)
    assert check_saved(pipeline(Keeps), model(Keeps(2.0)), INPUTS) is None


def test_a_lambda_and_a_local_loss_are_noted():
    def loss(targets, outputs):
        return keras.ops.mean(targets - outputs)

    assert "has a Python lambda" in check_saved(pipeline(), model(keras.layers.Lambda(lambda x: 2 * x)), INPUTS)
    assert "not be able to load the loss or metrics" in check_saved(
        pipeline(), model(keras.layers.ReLU(), loss), INPUTS
    )
    known = pipeline()
    known.custom_objects = {"loss": loss}
    assert check_saved(known, model(keras.layers.ReLU(), loss), INPUTS) is None
