"""Differences between two models that are not visible in their configurations are detected."""

import random

import keras
import numpy as np
import pytest
from keras import layers, losses
from keras.optimizers import SGD, Adam, schedules

from keras_dl.training.reuse import CompiledModels

from .test_compiled_models import build


class Scaled(layers.Layer):
    """A layer that depends on an attribute, on its class and on its module."""

    common = 1.0

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale

    def call(self, inputs):
        return inputs * self.scale * self.common * GLOBAL["scale"]


GLOBAL = {"scale": 1.0}


def changed_class(monkeypatch):
    monkeypatch.setattr(Scaled, "common", 2.0)
    return build(layer=Scaled())


def changed_global(monkeypatch):
    monkeypatch.setitem(GLOBAL, "scale", 2.0)
    return build(layer=Scaled())


def closing_over(scale):
    def loss(true, predicted):
        return scale * losses.mean_squared_error(true, predicted)

    return loss


def frozen():
    model = build()
    model.layers[1].trainable = False
    model.compile(SGD(0.1), "mse", metrics=["accuracy"], jit_compile=False)
    return model


def patched(model, **attributes):
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


DIFFERENCES = {
    "attribute of a layer": lambda: (build(layer=Scaled()), build(layer=Scaled(2.0))),
    "type of an attribute": lambda: (build(layer=Scaled(1)), build(layer=Scaled(1.0))),
    "closure": lambda: (build(loss=closing_over(1.0)), build(loss=closing_over(2.0))),
    "default": lambda: tuple(build(loss=lambda a, b, scale=scale: scale * (a - b) ** 2) for scale in (1.0, 2.0)),
    "array": lambda: tuple(build(loss=closing_over(np.full(3, scale))) for scale in (1.0, 2.0)),
    "units": lambda: (build(units=4), build(units=5)),
    "activation": lambda: (build(activation="relu"), build(activation="tanh")),
    "optimizer": lambda: (build(SGD(0.1)), build(Adam(0.1))),
    "nesterov": lambda: (build(SGD(0.1, 0.1)), build(SGD(0.1, 0.1, nesterov=True))),
    "clipping or none": lambda: (build(SGD(0.1)), build(SGD(0.1, clipnorm=1.0))),
    "rate 0": lambda: (build(layer=layers.Dropout(0.0)), build(layer=layers.Dropout(0.1))),
    "mask": lambda: (build(layer=layers.Masking(0.0)), build(layer=layers.Masking(1.0))),
    "dtype": lambda: (build(dtype="float32"), build(dtype="mixed_bfloat16")),
    "trainable": lambda: (build(), frozen()),
    "regularizer": lambda: tuple(build(kernel_regularizer=keras.regularizers.L2(strength)) for strength in (0.1, 0.2)),
    "constraint": lambda: tuple(build(kernel_constraint=keras.constraints.MaxNorm(norm)) for norm in (1, 2)),
    "loss": lambda: (build(loss="mse"), build(loss="mae")),
    "attribute of the model": lambda: (patched(build(), scale=1.0), patched(build(), scale=2.0)),
    "schedule": lambda: tuple(
        build(SGD(schedules.PiecewiseConstantDecay([2], [0.1, rate]))) for rate in (0.1, 0.2)
    ),
    "hidden state": lambda: tuple(patched(build(), draw=random.Random(1)) for _ in range(2)),
}  # fmt: skip


@pytest.mark.parametrize("kind", DIFFERENCES)
def test_models_with_a_difference_are_not_shared(kind):
    models = CompiledModels()
    one, other = DIFFERENCES[kind]()
    assert models.take(one) is one
    assert models.take(other) is other
    assert models.reused == 0


@pytest.mark.parametrize("change", [changed_class, changed_global])
def test_a_change_of_what_a_layer_looks_up_is_detected(change, monkeypatch):
    models = CompiledModels()
    one = models.take(build(layer=Scaled()))
    assert models.take(build(layer=Scaled())) is one
    other = change(monkeypatch)
    assert models.take(other) is other


def test_names_generated_by_keras_are_ignored():
    models = CompiledModels()
    one, other = build(layer=layers.Dropout(0.1)), build(layer=layers.Dropout(0.1))
    assert one.layers[1].name != other.layers[1].name
    assert models.take(one) is models.take(other)


def test_names_of_several_outputs_are_compared():
    """They are part of the names of metrics."""

    def double():
        rows = keras.Input((4,))
        model = keras.Model(rows, [layers.Dense(1)(rows), layers.Dense(1)(rows)])
        model.compile(SGD(0.1), ["mse", "mse"])
        return model

    models = CompiledModels()
    one, other = double(), double()
    assert models.take(one) is one
    assert models.take(other) is other


def test_deep_models_are_shared():
    def deep():
        model = keras.Sequential([keras.Input((2,)), *(layers.Activation("relu") for _ in range(300)), layers.Dense(1)])
        model.compile(SGD(0.1), "mse")
        return model

    models = CompiledModels()
    assert models.take(deep()) is models.take(deep())
