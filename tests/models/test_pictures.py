"""Plots of forecasts, recognized speech and alignments, including diverging and perfect forecasts."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from keras_dl.models.pictures import (
    Heard,
    alignment_picture,
    forecast_picture,
    growth_picture,
    recognition_picture,
    spectrum_picture,
)

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


@pytest.fixture
def heard():
    return Heard(
        title="12 heard as 17",
        spectrogram=np.zeros((200, 40)),
        hop=0.01,
        posteriors=np.full((50, 3), 1 / 3),
        step=0.04,
        classes=["", "1", "2"],
        labels=["1", "2"],
        start=np.array([0.5, 1.0]),
        end=np.array([0.6, 1.2]),
        right=False,
    )


def test_axes_and_titles(heard):
    figure = recognition_picture([heard, heard])
    assert len(figure.axes) == 4
    assert [axis.get_title(loc="left") for axis in figure.axes[::2]] == ["12 heard as 17"] * 2
    assert figure.axes[0]._left_title.get_color() == "red"


def test_positions_on_the_time_axis(heard):
    spectrum, posterior = recognition_picture([heard]).axes
    np.testing.assert_allclose(spectrum.images[0].get_extent(), [-0.005, 1.995, 0, 40])
    np.testing.assert_allclose([*spectrum.get_xlim(), *posterior.get_xlim()], [0, 2, 0, 2])
    assert len(posterior.lines) == 3
    np.testing.assert_allclose(posterior.lines[0].get_xdata()[[0, -1]], [0, 1.96])
    assert [text.get_text() for text in posterior.texts] == ["1", "2"]
    np.testing.assert_allclose([text.get_position()[0] for text in posterior.texts], [0.55, 1.1])


def test_a_recording_without_labels():
    empty = Heard("silence", np.zeros((4, 40)), 0.01, np.ones((1, 2)), 0.04, ["", "1"], [], np.zeros(0), np.zeros(0))
    recognition_picture([empty]).canvas.draw()


def test_each_example_has_a_heat_map():
    longer = np.eye(6, 7)  # padded beyond both sequences
    examples = [("zwei = two", list("zwei"), list("two"), longer), ("a", ["_one", "b"], ["c"], np.ones((1, 2)))] * 2
    figure = alignment_picture(examples[:3])
    figure.canvas.draw()
    first, second, _, empty = figure.axes
    assert first.get_title() == "zwei = two" and not empty.axison
    np.testing.assert_array_equal(first.images[0].get_array(), np.eye(3, 4))
    assert [label.get_text() for label in first.get_xticklabels()] == list("zwei")
    assert [label.get_text() for label in second.get_yticklabels()] == ["c"]
    assert {label.get_rotation() for label in first.get_xticklabels()} == {0}
    assert {label.get_rotation() for label in second.get_xticklabels()} == {90}
    plt.close(figure)
