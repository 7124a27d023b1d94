"""Tests of the recurrent forecaster and its closed-loop forecasts."""

import keras
import numpy as np
import pytest

from keras_dl.models import forecaster, free_run, train_forecaster
from keras_dl.ops.forecasting import nrmse


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return forecaster(2, units=8)


@pytest.fixture
def context():
    return np.random.default_rng(0).normal(size=(3, 20, 2)).astype("float32")


def test_free_run_feeds_outputs_back(model, context):
    found = free_run(model, context, 5).numpy()
    known = context
    for _ in range(5):
        known = np.concatenate([known, model(known).numpy()[:, -1:]], axis=1)
    np.testing.assert_allclose(found, known[:, 20:], atol=1e-5)


def test_free_run_of_one_step_is_the_prediction(model, context):
    np.testing.assert_allclose(free_run(model, context, 1)[:, 0], model(context)[:, -1], atol=1e-6)


def test_predictions_do_not_depend_on_later_steps(model, context):
    longer = np.concatenate([context, 10 + context], axis=1)
    np.testing.assert_allclose(model(longer)[:, :20], model(context), atol=1e-6)


def test_save_and_load(model, context, tmp_path):
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(free_run(again, context, 4), free_run(model, context, 4), atol=1e-6)


@pytest.mark.slow
def test_training_on_windows_learns_the_series():
    times = np.arange(1500) / 4
    series = np.stack([np.sin(times), np.cos(0.7 * times)], axis=1)
    trained = train_forecaster(series[:1000], units=16)
    predicted = trained(series[None, 1000:])[0].numpy()
    assert nrmse(series[1101:], predicted[100:-1]) < 0.5 * nrmse(series[1101:], series[1100:-1])
    again = train_forecaster(series[:1000], units=16)
    np.testing.assert_allclose(again(series[None, 1000:])[0], predicted, atol=1e-3)


def test_training_works_on_a_short_series():
    assert train_forecaster(np.random.default_rng(0).normal(size=(4, 1)), units=4).output_shape == (None, None, 1)


def test_contexts_and_steps_are_checked():
    model = forecaster(1, units=2)
    one = np.sin(np.arange(9.0))
    np.testing.assert_array_equal(free_run(model, one, 3), free_run(model, one[None, :, None], 3))
    for shape in ((2, 9), (2, 9, 2), (2, 0, 1), (0,)):
        with pytest.raises(
            ValueError, match=r"Expected (a context \[B, T, 1\], T above 0|series \[n, T, D\], or .*)\. Received: shape"
        ):
            free_run(model, np.ones(shape), 3)
    for steps in (0, 2.5, None):
        with pytest.raises(ValueError, match="`steps` must be an integer of at least 1. Received: "):
            free_run(model, one, steps)
