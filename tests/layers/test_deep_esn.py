"""Tests of DeepESN: the general checks, and a stack of ESN layers."""

import json

import keras
import numpy as np
import pytest

from keras_dl.layers import ESN, DeepESN, ESNCell
from keras_dl.layers.deep_esn import DeepESNCell

from .check_layer import check_layer

X = np.random.default_rng(0).normal(size=(3, 6, 2))
MASK = np.array([[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1], [1, 0, 0, 1, 0, 1]], bool)
OPTIONS = [{"units": 12, "fan_in": 5, "leak_rate": 0.8, "seed": 1}, {"units": 40, "fan_in": 2, "seed": 2}]


def cells(**options):
    return [ESNCell(**each, **options) for each in OPTIONS]


class FromOptions(DeepESN):
    """DeepESN from plain arguments, as `check_layer` requires."""

    def __init__(self, options, **kwargs):
        dtype = kwargs.get("dtype")
        cells = [ESNCell(**each, dtype=dtype, name=f"cell_{number}") for number, each in enumerate(options)]
        super().__init__(cells, **kwargs)
        self.options = options

    def get_config(self):
        config = super().get_config()
        return {**{name: value for name, value in config.items() if name != "cells"}, "options": self.options}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def test_behaves_as_a_sequence_layer(tmp_path):
    with keras.saving.custom_object_scope({"FromOptions": FromOptions}):
        check_layer(FromOptions, {"options": OPTIONS, "return_sequences": True}, X, tmp_path)


def test_matches_a_stack_of_esn_layers():
    layer = DeepESN(cells(dtype="float64"), return_sequences=True, return_state=True)
    assert layer.compute_dtype == "float64"
    outputs, *states = layer(X, mask=MASK)
    low, high = (ESN(**each, return_sequences=True, dtype="float64") for each in OPTIONS)
    first = low(X, mask=MASK)
    second = high(first, mask=MASK)
    np.testing.assert_allclose(outputs, np.concatenate([first, second], -1), atol=1e-12)
    for state, expected in zip(states, (first[:, -1], second[:, -1]), strict=True):
        np.testing.assert_allclose(state, expected, atol=1e-12)
    last = DeepESN(cells(dtype="float64"))
    np.testing.assert_allclose(last(X, mask=MASK), outputs[:, -1], atol=1e-12)


def test_matches_the_cell_in_the_keras_loop():
    cell = DeepESNCell(cells())
    by_keras = keras.layers.RNN(cell, return_sequences=True)
    np.testing.assert_allclose(DeepESN(cells(), return_sequences=True)(X, mask=MASK), by_keras(X, mask=MASK), atol=1e-6)


def test_config_saving_and_stateful(tmp_path):
    layer = DeepESN(cells(), return_sequences=True)
    config = layer.get_config()
    assert DeepESN.from_config(json.loads(json.dumps(config))).get_config() == config
    model = keras.Sequential([keras.Input((None, 2)), layer])
    model.save(tmp_path / "deep.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "deep.keras")(X), model(X))
    stateful = DeepESN(cells(), return_sequences=True, stateful=True)
    np.testing.assert_allclose(np.concatenate([stateful(X[:, :2]), stateful(X[:, 2:])], 1), layer(X), atol=1e-6)


def test_bidirectional():
    outputs = keras.layers.Bidirectional(DeepESN(cells(), return_sequences=True))(X)
    forward, backward = DeepESN(cells(), return_sequences=True), DeepESN(cells(), return_sequences=True)
    expected = np.concatenate([forward(X), np.flip(backward(np.flip(X, 1).copy()), 1)], -1)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)


@pytest.mark.parametrize("wrong", [[], [3], [keras.layers.GRUCell(3)]])
def test_invalid_cells_raise_an_error(wrong):
    with pytest.raises(ValueError, match="`cells` must be a list of at least one ESNCell. Received"):
        DeepESN(wrong)


def test_cells_of_a_different_dtype_raise_an_error():
    with pytest.raises(ValueError, match="Expected cells with dtype float64. Received"):
        DeepESN(cells(), dtype="float64")


def test_repeated_cells_and_feedback_raise_an_error():
    cell = ESNCell(12, 3, seed=1)
    for cells in ([cell, cell], [ESNCell(12, 3, feedback=1)]):
        with pytest.raises(ValueError, match="`cells` must be distinct and without feedback. Received: "):
            DeepESN(cells)
