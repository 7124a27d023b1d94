"""RidgeReadout: fitted in parts, alpha by validation, bad input leaves it as it was."""

import json

import keras
import numpy as np
import pytest

from keras_dl.layers import RidgeReadout

generator = np.random.default_rng(0)
Z = generator.normal(size=(60, 4)) + 2
Y = Z @ generator.normal(size=(4, 2)) + 1 + generator.normal(size=(60, 2))


def textbook(z, y, alpha):
    centred = z - z.mean(0)
    kernel = np.linalg.solve(centred.T @ centred + alpha * np.eye(4), centred.T @ (y - y.mean(0)))
    return kernel, y.mean(0) - z.mean(0) @ kernel


def test_is_ridge_regression_in_any_parts(tmp_path):
    readout = RidgeReadout(2, alpha=0.5, dtype="float64")
    for part in np.split(np.arange(60), [7, 30]):
        readout.partial_fit(Z[part], Y[part])
    assert readout.solve() == 0.5
    for found, expected in zip(readout.get_weights(), textbook(Z, Y, 0.5), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)
    assert readout.trainable_weights == []
    model = keras.Sequential([keras.Input((None, 4)), readout])
    model.save(tmp_path / "readout.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "readout.keras")(Z[None]), model(Z[None]))
    assert model.output_shape == (None, None, 2)


def test_the_best_alpha_is_that_of_the_validation_data():
    alphas = [1e-3, 3.0, 1e4]
    readout = RidgeReadout(2, alpha=alphas)
    readout.partial_fit(Z[:20], Y[:20])
    rest = Z[20:], Y[20:]
    errors = [np.square(rest[0] @ k + b - rest[1]).sum() for k, b in (textbook(Z[:20], Y[:20], a) for a in alphas)]
    assert readout.solve([(Z[20:30], Y[20:30]), (Z[30:], Y[30:], np.ones(30))]) == alphas[np.argmin(errors)]
    weights = (np.arange(40) == 3).astype(float)
    errors = [
        np.square(rest[0][3] @ k + b - rest[1][3]).sum() for k, b in (textbook(Z[:20], Y[:20], a) for a in alphas)
    ]
    assert readout.solve([(*rest, weights)]) == alphas[np.argmin(errors)]


def test_config_through_json():
    for alpha in (np.float32(0.5), [0.1, 1], np.logspace(-3, 0, 4)):
        config = RidgeReadout(np.int64(3), alpha).get_config()
        assert RidgeReadout.from_config(json.loads(json.dumps(config))).get_config() == config


@pytest.mark.parametrize("units", [0, -1, 1.5])
def test_units_that_cannot_be(units):
    with pytest.raises(ValueError, match="`units` must be an int above 0"):
        RidgeReadout(units)


@pytest.mark.parametrize("alpha", [-1.0, [], [1.0, np.nan], np.inf, [[1.0]]])
def test_alphas_that_cannot_be(alpha):
    with pytest.raises(ValueError, match="`alpha` must be a number from 0, or a list of them"):
        RidgeReadout(1, alpha)


def test_bad_data_changes_nothing():
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
    np.testing.assert_allclose(readout.get_weights()[0], textbook(Z, Y, 0.5)[0], atol=1e-6)


def test_what_cannot_be_solved_changes_nothing():
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
    with pytest.raises(ValueError, match="among 2 alphas, validation data are needed"):
        several.solve()
    with pytest.raises(ValueError, match="validation data .* hold no row"):
        several.solve([])


@pytest.mark.parametrize("weights", [np.full(5, np.nan), -np.ones(5), np.ones(4)])
def test_wrong_weights_are_refused(weights):
    with pytest.raises(ValueError, match="Expected 5 weights from 0. Received: "):
        RidgeReadout(1).partial_fit(np.eye(5), np.ones((5, 1)), weights)


def test_a_line_is_found_and_its_intercept_added():
    readout = RidgeReadout(1, alpha=0.0)
    readout.partial_fit(np.array([[0.0], [1.0], [2.0]]), np.array([[4.0], [6.0], [8.0]]))
    readout.solve()
    np.testing.assert_allclose(readout(np.array([[10.0]])), [[24.0]], rtol=1e-6)  # 4 + 2 x
