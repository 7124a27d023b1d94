"""Tests of RidgeReadout: fitting in parts, selection of alpha, and invalid data."""

import json

import keras
import numpy as np
import pytest

from keras_dl.layers import RidgeReadout

generator = np.random.default_rng(0)
Z = generator.normal(size=(60, 4)) + 2
Y = Z @ generator.normal(size=(4, 2)) + 1 + generator.normal(size=(60, 2))


def in_numpy(z, y, alpha):
    centered = z - z.mean(0)
    kernel = np.linalg.solve(centered.T @ centered + alpha * np.eye(4), centered.T @ (y - y.mean(0)))
    return kernel, y.mean(0) - z.mean(0) @ kernel


def test_fitting_in_parts_matches_ridge_regression(tmp_path):
    readout = RidgeReadout(2, alpha=0.5, dtype="float64")
    for part in np.split(np.arange(60), [7, 30]):
        readout.partial_fit(Z[part], Y[part])
    assert readout.solve() == 0.5
    for found, expected in zip(readout.get_weights(), in_numpy(Z, Y, 0.5), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)
    assert readout.trainable_weights == []
    model = keras.Sequential([keras.Input((None, 4)), readout])
    model.save(tmp_path / "readout.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "readout.keras")(Z[None]), model(Z[None]))
    assert model.output_shape == (None, None, 2)


def test_alpha_is_selected_on_validation_data():
    alphas = [1e-3, 3.0, 1e4]
    readout = RidgeReadout(2, alpha=alphas)
    readout.partial_fit(Z[:20], Y[:20])
    rest = Z[20:], Y[20:]
    errors = [np.square(rest[0] @ k + b - rest[1]).sum() for k, b in (in_numpy(Z[:20], Y[:20], a) for a in alphas)]
    assert readout.solve([(Z[20:30], Y[20:30]), (Z[30:], Y[30:], np.ones(30))]) == alphas[np.argmin(errors)]
    weights = (np.arange(40) == 3).astype(float)
    errors = [
        np.square(rest[0][3] @ k + b - rest[1][3]).sum() for k, b in (in_numpy(Z[:20], Y[:20], a) for a in alphas)
    ]
    assert readout.solve([(*rest, weights)]) == alphas[np.argmin(errors)]


def test_config_round_trip():
    for alpha in (np.float32(0.5), [0.1, 1], np.logspace(-3, 0, 4)):
        config = RidgeReadout(np.int64(3), alpha).get_config()
        assert RidgeReadout.from_config(json.loads(json.dumps(config))).get_config() == config


@pytest.mark.parametrize("units", [0, -1, 1.5])
def test_invalid_units_raise_an_error(units):
    with pytest.raises(ValueError, match="`units` must be an integer of at least 1"):
        RidgeReadout(units)


@pytest.mark.parametrize("alpha", [-1.0, [], [1.0, np.nan], np.inf, [[1.0]]])
def test_invalid_alphas_raise_an_error(alpha):
    with pytest.raises(ValueError, match="`alpha` must be a number of at least 0, or a list of them"):
        RidgeReadout(1, alpha)


def test_invalid_data_has_no_effect():
    readout = RidgeReadout(2, alpha=0.5)
    with pytest.raises(ValueError, match="Expected data from `partial_fit`"):
        readout.solve()
    readout.partial_fit(Z[:30], Y[:30])
    readout.solve()
    before = readout.get_weights()
    for z, y, message in (
        (np.where(np.arange(60)[:, None] == 5, np.nan, Z), Y, "Expected finite features. Received: nan"),
        (Z, np.where(np.arange(60)[:, None] == 5, np.inf, Y), "Expected finite targets. Received: inf"),
        (Z, Y[:3], "Expected features .* Received: shapes"),
        (Z[:, :3], Y, "Expected 4 features"),
    ):
        with pytest.raises(ValueError, match=message):
            readout.partial_fit(z, y)
    assert all((a == b).all() for a, b in zip(before, readout.get_weights(), strict=True))
    readout.partial_fit(Z[30:], Y[30:])
    readout.solve()
    np.testing.assert_allclose(readout.get_weights()[0], in_numpy(Z, Y, 0.5)[0], atol=1e-6)


def test_a_failing_solve_has_no_effect():
    readout = RidgeReadout(2, alpha=0.0)
    readout.partial_fit(Z, Y)
    readout.solve()
    before = readout.get_weights()
    readout.statistics = None
    readout.partial_fit(Z[:3], Y[:3])
    with pytest.raises(ValueError, match="singular"):
        readout.solve()
    assert all((a == b).all() for a, b in zip(before, readout.get_weights(), strict=True))
    several = RidgeReadout(2, alpha=[0.1, 1.0])
    several.partial_fit(Z, Y)
    with pytest.raises(ValueError, match="Expected validation data to choose among 2 alphas"):
        several.solve()
    with pytest.raises(ValueError, match="Expected validation data with at least one row"):
        several.solve([])


@pytest.mark.parametrize("weights", [np.full(5, np.nan), -np.ones(5), np.ones(4)])
def test_invalid_sample_weights_raise_an_error(weights):
    with pytest.raises(ValueError, match="Expected 5 weights of at least 0. Received: "):
        RidgeReadout(1).partial_fit(np.eye(5), np.ones((5, 1)), weights)


def test_fits_a_line_with_an_intercept():
    readout = RidgeReadout(1, alpha=0.0)
    readout.partial_fit(np.array([[0.0], [1.0], [2.0]]), np.array([[4.0], [6.0], [8.0]]))
    readout.solve()
    np.testing.assert_allclose(readout(np.array([[10.0]])), [[24.0]], rtol=1e-6)  # 4 + 2 x
