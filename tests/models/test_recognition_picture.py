"""Tests of the recognition plot."""

import numpy as np
import pytest

from keras_dl.models.recognition_picture import Heard, recognition_picture


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
