"""What is drawn, read from the figure."""

import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import pytest

from keras_dl.tuning.pictures import parallel_coordinates

TRIALS = [
    {"units": 8, "rate": 0.001, "cell": "lstm", "val_loss": 0.5},
    {"units": 16, "rate": 0.1, "cell": "gru", "val_loss": 0.1},
    {"units": 32, "rate": 0.01, "cell": "esn", "val_loss": 0.9},
]


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def axis_of(trials, direction="min", logarithmic=()):
    figure = parallel_coordinates(trials, "val_loss", direction, logarithmic)
    figure.canvas.draw()  # whatever cannot be drawn fails here
    (axis,) = figure.axes
    return axis


def paths(axis):
    """The heights of each trial's line, worst first."""
    return [list(line.get_ydata()) for line in axis.lines if line.get_marker() == "o"]


def names(axis):
    return [label.get_text() for label in axis.get_xticklabels()]


def labels(axis):
    """What is written beside the scales, and where."""
    return [(text.get_text(), text.get_position()) for text in axis.texts]


def darkness(line):
    return -matplotlib.colors.to_rgb(line.get_color())[1]


def test_one_line_a_trial_and_one_axis_a_value():
    axis = axis_of(TRIALS)
    assert names(axis) == ["units", "rate", "cell", "val_loss"]
    assert len(paths(axis)) == 3 and all(len(path) == 4 for path in paths(axis))
    assert axis.get_title().startswith("3 trials")


@pytest.mark.parametrize("direction, best_first", [("min", [0.1, 0.5, 0.9]), ("max", [0.9, 0.5, 0.1])])
def test_the_best_is_thick_dark_and_on_top(direction, best_first):
    axis = axis_of(TRIALS, direction)
    lines = [line for line in axis.lines if line.get_marker() == "o"]
    heights = [(score - 0.1) / 0.8 for score in best_first]
    np.testing.assert_allclose([line.get_ydata()[-1] for line in lines], heights[::-1], atol=1e-9)
    assert [line.get_linewidth() for line in lines] == [1.5, 1.5, 3]
    assert darkness(lines[0]) < darkness(lines[1]) < darkness(lines[2])


def test_a_linear_and_a_logarithmic_scale():
    # By rank: 0.9, 0.5, 0.1, so that the rates are 0.01, 0.001, 0.1 and the units 32, 8, 16.
    linear = np.array(paths(axis_of(TRIALS)))
    np.testing.assert_allclose(linear[:, 0], [1, 0, 8 / 24])
    np.testing.assert_allclose(linear[:, 1], [9 / 99, 0, 1])
    logarithmic = np.array(paths(axis_of(TRIALS, logarithmic=["rate"])))
    np.testing.assert_allclose(logarithmic[:, 1], [0.5, 0, 1])
    np.testing.assert_allclose(logarithmic[:, 0], linear[:, 0])


def test_words_are_spaced_evenly_and_labelled():
    axis = axis_of(TRIALS)
    np.testing.assert_allclose(np.array(paths(axis))[:, 2], [0, 1, 0.5])
    places = dict(labels(axis))
    for word, height in {"esn": 0, "gru": 0.5, "lstm": 1}.items():
        assert places[word] == pytest.approx((2, height), abs=0.1)


def test_the_ends_of_a_number_scale_are_labelled_with_its_values():
    ends = [(text, *place) for text, place in labels(axis_of(TRIALS, logarithmic=["rate"]))]
    expected = [("8", 0, 0), ("32", 0, 1), ("0.001", 1, 0), ("0.1", 1, 1), ("0.1", 3, 0), ("0.9", 3, 1)]
    for text, *place in expected:
        assert any(end[0] == text and end[1:] == pytest.approx(tuple(place), abs=0.1) for end in ends), text


def test_true_and_false_are_words():
    trials = [{"peepholes": True, "val_loss": 0.1}, {"peepholes": False, "val_loss": 0.2}]
    axis = axis_of(trials)
    assert {"True", "False"} <= {text.get_text() for text in axis.texts}


def test_what_never_changed_is_left_out():
    trials = [{**trial, "batch_size": 32} for trial in TRIALS]
    assert "batch_size" not in names(axis_of(trials))


def test_one_trial_alone():
    axis = axis_of(TRIALS[:1])
    assert names(axis) == ["val_loss"]
    assert paths(axis) == [[0.5]]
    assert [text.get_text() for text in axis.texts] == ["0.5"]


def test_equal_scores():
    axis = axis_of([{**trial, "val_loss": 0.25} for trial in TRIALS])
    assert [path[-1] for path in paths(axis)] == [0.5] * 3


def test_a_value_that_only_some_trials_have():
    axis = axis_of([{"cell": "lstm", "radius": None, "val_loss": 0.1}, {"cell": "esn", "radius": 0.9, "val_loss": 0.2}])
    assert names(axis) == ["cell", "radius", "val_loss"]
    assert {"None", "0.9"} <= {text.get_text() for text in axis.texts}


def test_a_value_that_the_first_trial_does_not_have():
    axis = axis_of([{"cell": "lstm", "val_loss": 0.1}, {"cell": "esn", "radius": 0.9, "val_loss": 0.2}])
    assert names(axis) == ["cell", "radius", "val_loss"]
