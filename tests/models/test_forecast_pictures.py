"""Tests of the forecast plots, including diverging and perfect forecasts."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from keras_dl.models.forecast_pictures import forecast_picture, growth_picture, spectrum_picture

WAVE = np.sin(np.arange(300) / 5)[:, None]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    for number in plt.get_fignums():
        plt.figure(number).canvas.draw()
    plt.close("all")


def test_each_forecaster_has_a_row_with_truth_and_forecast():
    figure = forecast_picture({"good": WAVE, "bad": WAVE + 100}, WAVE)
    assert [axis.get_ylabel() for axis in figure.axes] == ["good", "bad"]
    for axis, shift in zip(figure.axes, (0, 100), strict=True):
        truth, forecast, _ = axis.lines
        np.testing.assert_array_equal(truth.get_ydata(), WAVE[:, 0])
        np.testing.assert_array_equal(forecast.get_ydata(), WAVE[:, 0] + shift)
        assert axis.get_ylim()[1] < 2  # the limits ignore a forecast that diverges


def test_at_most_three_variables_are_plotted():
    series = np.repeat(WAVE, 5, axis=1)
    figure = forecast_picture({"model": np.where(series > 0.9, np.nan, series)}, series, context=series[:20])
    assert [axis.get_ylabel() for axis in figure.axes] == [f"model\nvariable {number}" for number in (1, 2, 3)]


def test_growth_with_infinite_and_zero_errors():
    growths = {"good": np.geomspace(1e-4, 1, 50), "bad": np.full(50, np.inf), "perfect": np.zeros(50)}
    figure = growth_picture(growths, {"good": 42.0, "bad": 0.0, "perfect": 50.0})
    (axis,) = figure.axes
    assert [text.get_text().split(":")[0] for text in axis.get_legend().get_texts()] == list(growths)
    assert axis.get_yscale() == "log" and 0 < axis.get_ylim()[0] < 1e-4


def test_spectrum_shows_the_eigenvalues_and_both_circles():
    rotation = 0.7 * np.array([[0.0, 1.0], [-1.0, 0.0]])
    (axis,) = spectrum_picture(rotation).axes
    points = axis.collections[0].get_offsets()
    np.testing.assert_allclose(sorted(points[:, 1]), [-0.7, 0.7], atol=1e-12)
    unit, radius = axis.lines
    np.testing.assert_allclose(np.hypot(*unit.get_data()), 1)
    np.testing.assert_allclose(np.hypot(*radius.get_data()), 0.7)
