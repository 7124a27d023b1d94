"""Tests of Reservoir: states and masks as in the Keras loop."""

import keras
import numpy as np
import pytest

from keras_dl.layers import ESNCell
from keras_dl.layers.reservoir import Reservoir

X = np.random.default_rng(0).normal(size=(3, 6, 2))
MASK = np.array([[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1], [1, 0, 0, 1, 0, 1]], bool)


@pytest.mark.parametrize("options", [{}, {"go_backwards": True}, {"zero_output_for_mask": True}])
@pytest.mark.parametrize("return_sequences", [True, False])
def test_matches_the_keras_loop(options, return_sequences):
    options = {**options, "return_sequences": return_sequences, "return_state": True, "dtype": "float64"}
    cell = ESNCell(40, 2, leak_rate=0.5, bias_scaling=0.3, seed=1, dtype="float64")
    found = Reservoir(cell, **options)
    expected = keras.layers.RNN(cell, **options)
    start = [np.random.default_rng(1).normal(size=(3, 40))]
    for mask, state in ((None, start), (MASK, None), (MASK, start)):
        results = found(X, initial_state=state, mask=mask), expected(X, initial_state=state, mask=mask)
        for value, other in zip(*results, strict=True):
            np.testing.assert_allclose(value, other, atol=1e-12)


def test_a_stateful_layer_continues_until_it_is_reset():
    cell = ESNCell(10, 2, seed=1)
    whole, layer = Reservoir(cell, return_sequences=True)(X), Reservoir(cell, stateful=True, return_sequences=True)
    for _ in range(2):
        parts = [layer(X[:, :2]), layer(X[:, 2:])]
        np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-6)
        layer.reset_state()


def test_inputs_of_the_wrong_shape_raise_an_error():
    layer = Reservoir(ESNCell(10, 2))
    layer(X)
    with pytest.raises(ValueError, match="axis -1 of input shape to have value 2"):
        layer(X[..., :1])
    with pytest.raises(ValueError, match="expected ndim=3"):
        layer(X[0])
