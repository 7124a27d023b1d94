"""Tests of the closed-loop error of ForecastingNetwork."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.layers import ESN
from keras_dl.models import ForecastingNetwork

NOISE = np.random.default_rng(0).normal(0, 0.05, (1200, 2))  # noise in the training data keeps the loop stable
SERIES = np.stack([np.sin(np.arange(1200) / 5), np.cos(np.arange(1200) / 7)], axis=1) + NOISE
SERIES = SERIES.reshape(3, 400, 2)
DATA = tf.data.Dataset.from_tensor_slices((SERIES[:, :-1], SERIES[:, 1:])).batch(2)


@pytest.fixture(scope="module", autouse=True)
def eager_functions():
    """Overrides the fixture of all tests of models: graphs are faster for these lengths."""


@pytest.fixture(scope="module")
def model():
    model = ForecastingNetwork(ESN(50, input_scaling=0.1, seed=0), 2, ahead=30, alpha=1e-6, washout=50)
    model.compile(loss="mse")
    model.fit(DATA, verbose=0)
    return model


def reference_error(model):
    """The error 30 steps after 8 start positions from 185 to 370, with 185 steps of context each."""
    errors = []
    for start in np.linspace(185, 370, 8).astype(int):
        forecast = np.asarray(model.forecast(SERIES[:, start - 185 : start], 30))[:, -1]
        errors.append((forecast - SERIES[:, start + 29]) / SERIES.reshape(-1, 2).std(axis=0))
    return np.sqrt(np.mean(np.square(errors)))


def test_closed_loop_error_equals_the_reference(model):
    scores = model.evaluate(DATA, verbose=0, return_dict=True)
    assert set(scores) == {"loss", "closed_loop_nrmse"}
    assert scores["closed_loop_nrmse"] == pytest.approx(reference_error(model), rel=1e-2)
    arrays = model.evaluate(SERIES[:, :-1], SERIES[:, 1:], verbose=0, return_dict=True)
    assert arrays["closed_loop_nrmse"] == pytest.approx(scores["closed_loop_nrmse"], rel=1e-2)


def test_fit_logs_the_closed_loop_error():
    model = ForecastingNetwork(ESN(50, input_scaling=0.1, seed=0), 2, ahead=30, alpha=[1e-6, 1e-3], washout=50)
    model.compile(loss="mse")
    logs = model.fit(DATA, validation_data=DATA, verbose=0).history
    assert 0 < logs["val_closed_loop_nrmse"][0] < 1


def test_errors_are_clipped_at_ten_deviations(model):
    kernel = model.readout.kernel.numpy()
    model.readout.kernel.assign(1e6 * kernel)
    try:
        assert model.evaluate(DATA, verbose=0, return_dict=True)["closed_loop_nrmse"] == 10
    finally:
        model.readout.kernel.assign(kernel)


def test_save_and_load(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, ForecastingNetwork) and loaded.ahead == 30
    np.testing.assert_array_equal(loaded.forecast(SERIES[:, :200], 5), model.forecast(SERIES[:, :200], 5))


@pytest.mark.parametrize("ahead", [0, 2.5, "84"])
def test_invalid_ahead(ahead):
    with pytest.raises(ValueError, match="`ahead` must be an integer of at least 1. Received: "):
        ForecastingNetwork(ESN(10, fan_in=2, seed=0), 1, ahead=ahead)


def test_sequences_that_are_too_short(model):
    with pytest.raises(ValueError, match="Expected sequences of 30 steps or more. Received: 20"):
        model.evaluate(SERIES[:, :20], SERIES[:, 1:21], verbose=0, return_dict=True)
