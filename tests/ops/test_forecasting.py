import numpy as np
import pytest

from keras_dl.ops.forecasting import (
    LinearAutoregression,
    error_growth,
    free_runs,
    nrmse,
    persistence,
    valid_horizon,
    windows,
)

GENERATOR = np.random.default_rng(0)


def oscillation(length):
    """Returns two variables that follow a linear rule of order 2."""
    times = np.arange(length)
    return np.stack([np.sin(times / 5), 30 + 7 * np.cos(times / 5)], axis=1)


def test_free_runs_start_after_their_context():
    series, seen = GENERATOR.normal(size=(300, 2)), []

    def forecaster(context, steps):
        seen.append(context)
        return np.zeros((len(context), steps, 2))

    forecasts, truth, errors = free_runs(forecaster, series, starts=7, context=50, steps=100)
    (contexts,) = seen
    assert contexts.shape == (7, 50, 2) and forecasts.shape == truth.shape == (7, 100, 2) and errors.shape == (7, 100)
    pieces = np.concatenate([contexts, truth], axis=1)
    places = [int(np.flatnonzero((series == piece[0]).all(axis=1))[0]) for piece in pieces]
    assert (places[0], places[-1]) == (0, 300 - 150)
    for place, piece in zip(places, pieces, strict=True):
        np.testing.assert_array_equal(series[place : place + 150], piece)


def test_errors_are_in_standard_deviations_of_each_variable():
    series = GENERATOR.normal(5, [1, 100], size=(400, 2))
    off = series.std(axis=0) * [3, 4]

    def forecaster(context, steps):
        places = [np.flatnonzero((series == row[-1]).all(axis=1))[0] + 1 for row in context]
        return np.stack([series[place : place + steps] for place in places]) + off

    _, _, errors = free_runs(forecaster, series, 10, 20, 50)
    np.testing.assert_allclose(errors, np.sqrt((9 + 16) / 2))
    np.testing.assert_allclose(error_growth(errors), np.sqrt((9 + 16) / 2))


def test_units_do_not_matter():
    series = GENERATOR.normal(size=(300, 2)).cumsum(axis=0)
    _, _, errors = free_runs(persistence, series, 10, 20, 50)
    _, _, scaled = free_runs(persistence, series * [0.01, 50] + 3, 10, 20, 50)
    np.testing.assert_allclose(scaled, errors)


def test_divergence_has_an_infinite_error():
    series = GENERATOR.normal(size=(300, 1))
    _, _, errors = free_runs(lambda context, steps: np.full((len(context), steps, 1), np.nan), series, 5, 20, 50)
    assert (errors == np.inf).all() and valid_horizon(errors) == 0 and (error_growth(errors) == np.inf).all()


@pytest.mark.parametrize(
    ("errors", "horizon"),
    [
        ([[0.0, 0.0, 0.0]], 3),
        ([[0.5, 0.0, 0.0]], 0),
        ([[0.4, 0.41, 0.0]], 1),
        ([[0.0, 0.5], [0.5, 0.0]], 0.5),
    ],
)
def test_the_valid_horizon(errors, horizon):
    assert valid_horizon(np.array(errors)) == horizon


def test_linear_series_are_forecast_exactly():
    series = oscillation(400)
    model = LinearAutoregression(2).fit(series[:200])
    np.testing.assert_allclose(model.predict(series[200:])[:-1], series[202:], atol=1e-6)
    _, _, errors = free_runs(model.forecast, series[200:], 5, 10, 100)
    assert errors.max() < 1e-6


def test_the_last_prediction_is_one_step_after_the_series():
    series = oscillation(300)
    model = LinearAutoregression(3).fit(series[:200])
    assert model.predict(series[:250]).shape == (248, 2)
    np.testing.assert_allclose(model.predict(series[:250])[-1], series[250], atol=1e-6)
    np.testing.assert_allclose(model.forecast(series[None, :250], 1)[0, 0], series[250], atol=1e-6)


def test_the_fit_is_least_squares():
    series = GENERATOR.normal(size=(500, 1))
    model = LinearAutoregression(4).fit(series)
    design = np.stack([np.ones(496), *(series[lag : 496 + lag, 0] for lag in range(4))], axis=1)
    best = np.linalg.lstsq(design, series[4:], rcond=None)[0]
    np.testing.assert_allclose(np.concatenate([[model.bias], model.kernel]), best, atol=1e-10)


def test_nrmse_matches_the_metric():
    from keras_dl.metrics import NRMSE

    truth, noise = GENERATOR.normal(3, [1, 50], size=(80, 2)), GENERATOR.normal(0, [0.1, 20], size=(80, 2))
    metric = NRMSE()
    metric.update_state(truth, truth + noise)
    assert nrmse(truth, truth + noise) == pytest.approx(float(metric.result()), rel=1e-5)
    assert nrmse(7 * truth, 7 * (truth + noise)) == pytest.approx(nrmse(truth, truth + noise))


@pytest.mark.parametrize("size", [60, 111, 200, 201, 1000])
@pytest.mark.parametrize("overlap", [0, 1, 50])
def test_every_step_is_in_one_window_after_the_overlap(size, overlap):
    inputs, targets = windows(np.arange(size)[:, None], 100, overlap)
    np.testing.assert_array_equal(targets, inputs + 1)
    assert inputs.shape[1] - overlap <= 100
    after_overlap = inputs[:, overlap:, 0].ravel()
    np.testing.assert_array_equal(after_overlap, np.arange(overlap, overlap + len(after_overlap)))
    assert size - 1 - overlap - len(after_overlap) < len(inputs)


def test_the_best_order_is_selected_by_validation():
    series = oscillation(600) + GENERATOR.normal(0, 0.3, (600, 2))
    train, validation = series[:400], series[400:]
    orders = (1, 2, 4, 8, 16, 64, 99, 100)
    best = LinearAutoregression.best(train, validation, orders)
    errors = {}
    for order in orders[:-2]:
        model = LinearAutoregression(order).fit(train)
        errors[order] = nrmse(validation[order:], model.predict(validation)[:-1])
    assert best.order == min(errors, key=errors.get)


def test_orders_too_long_for_the_series_are_skipped():
    series = oscillation(80)
    assert LinearAutoregression.best(series[:60], series[60:], (2, 10, 15, 128)).order == 2
