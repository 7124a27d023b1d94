"""The plots of a search, read from the figures."""

import io

import matplotlib.colors
import numpy as np
import pytest

from keras_dl.tuning.report.importance import Importance
from keras_dl.tuning.report.pictures import curves, importance_bars, parallel_coordinates, slice_of, times, trade_off
from keras_dl.tuning.results import TrialResult

TRIALS = [
    {"units": 8, "rate": 0.001, "cell": "lstm", "val_loss": 0.5},
    {"units": 16, "rate": 0.1, "cell": "gru", "val_loss": 0.1},
    {"units": 32, "rate": 0.01, "cell": "esn", "val_loss": 0.9},
]


def axis_of(trials, direction="min", logarithmic=()):
    return only(parallel_coordinates(trials, "val_loss", direction, logarithmic))


def only(figure):
    """Renders a figure, which raises an error for invalid contents, and returns its only axis."""
    figure.savefig(io.BytesIO(), format="svg")
    (axis,) = figure.axes
    return axis


def paths(axis):
    """Returns the heights of each trial's line, the worst first."""
    return [list(line.get_ydata()) for line in axis.lines if line.get_marker() == "o"]


def names(axis):
    return [label.get_text() for label in axis.get_xticklabels()]


def labels(axis):
    """Returns the labels of the scales and their positions."""
    return [(text.get_text(), text.get_position()) for text in axis.texts]


def darkness(line):
    return -matplotlib.colors.to_rgb(line.get_color())[1]


def test_there_is_a_line_per_trial_and_an_axis_per_hyperparameter():
    axis = axis_of(TRIALS)
    assert names(axis) == ["units", "rate", "cell", "val_loss"]
    assert len(paths(axis)) == 3 and all(len(path) == 4 for path in paths(axis))
    assert axis.get_title().startswith("3 trials")


@pytest.mark.parametrize("direction, best_first", [("min", [0.1, 0.5, 0.9]), ("max", [0.9, 0.5, 0.1])])
def test_the_best_line_is_thick_dark_and_on_top(direction, best_first):
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


def test_words_are_evenly_spaced_and_labeled():
    axis = axis_of(TRIALS)
    np.testing.assert_allclose(np.array(paths(axis))[:, 2], [0, 1, 0.5])
    places = dict(labels(axis))
    for word, height in {"esn": 0, "gru": 0.5, "lstm": 1}.items():
        assert places[word] == pytest.approx((2, height), abs=0.1)


def test_the_ends_of_a_number_scale_are_labeled_with_its_values():
    ends = [(text, *place) for text, place in labels(axis_of(TRIALS, logarithmic=["rate"]))]
    expected = [("8", 0, 0), ("32", 0, 1), ("0.001", 1, 0), ("0.1", 1, 1), ("0.1", 3, 0), ("0.9", 3, 1)]
    for text, *place in expected:
        assert any(end[0] == text and end[1:] == pytest.approx(tuple(place), abs=0.1) for end in ends), text


def test_true_and_false_are_words():
    trials = [{"peepholes": True, "val_loss": 0.1}, {"peepholes": False, "val_loss": 0.2}]
    axis = axis_of(trials)
    assert {"True", "False"} <= {text.get_text() for text in axis.texts}


def test_constant_hyperparameters_are_omitted():
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


def test_a_missing_number_is_drawn_below_the_axis():
    trials = [{"radius": radius, "val_loss": 0.1} for radius in (0.5, None, 0.7, 0.9)]
    axis = axis_of(trials)
    assert sorted(path[0] for path in paths(axis)) == pytest.approx([-0.15, 0, 0.5, 1])
    assert dict(labels(axis))["None"] == pytest.approx((0.04, -0.125))


def test_errors_over_more_than_a_decade_are_drawn_on_a_log_scale():
    scores = [0.01, 0.1, 1.0]
    trials = [{"units": number, "val_loss": score} for number, score in enumerate(scores)]
    assert sorted(path[-1] for path in paths(axis_of(trials))) == pytest.approx([0, 0.5, 1])
    assert sorted(path[-1] for path in paths(axis_of(trials, "max"))) == pytest.approx([0, 1 / 11, 1])


def test_lines_of_many_trials_are_thin_and_equal_values_are_jittered():
    trials = [{"cell": ["lstm", "gru"][i % 2], "val_loss": 1 + i / 300} for i in range(300)]
    axis = axis_of(trials)
    lines = [line for line in axis.lines if line.get_marker() == "o"]
    assert {line.get_linewidth() for line in lines[:-1]} == {0.6} and lines[-1].get_linewidth() == 3
    heights = [path[0] for path in paths(axis)]
    assert len(set(heights)) == 300 and all(min(abs(h), abs(h - 1)) <= 0.02 for h in heights)


def test_names_and_words_are_shortened_and_escaped():
    trials = [{"a$_1$" + "x" * 50: word, "val_loss": 0.1} for word in ("$y$", r"\frac{", "z" * 50)]
    texts = [text.get_text() for text in axis_of(trials).texts]
    assert r"\$y\$" in texts and max(len(text) for text in texts) <= 24


def result(number, score=None, curve=(), status="COMPLETED", first_epoch=1, seconds=None, metrics=None, **values):
    return TrialResult(
        number, f"{number - 1:02d}", values, status, score, curve=curve, first_epoch=first_epoch, seconds=seconds,
        metrics=metrics or {},
    )  # fmt: skip


NAN, INF = float("nan"), float("inf")


def test_the_legend_names_the_best_five_trials():
    results = [result(i, i / 10, (1.0, i / 10)) for i in range(1, 9)]
    axis = only(curves(results, "val_loss", "min"))
    assert len(axis.lines) == 8 and axis.get_ylabel() == "val_loss"
    shown = [text.get_text() for text in axis.get_legend().get_texts()]
    assert shown == [f"trial-{i}: {i / 10:.4g}" for i in range(1, 6)]
    best = max(axis.lines, key=lambda line: line.get_linewidth())
    assert list(best.get_ydata()) == [1.0, 0.1]
    shown = [text.get_text() for text in only(curves(results, "val_loss", "max")).get_legend().get_texts()]
    assert shown[0] == "trial-8: 0.8"


def test_a_curve_starts_at_its_first_epoch_and_has_gaps():
    axis = only(curves([result(1, 0.2, (0.4, NAN, INF, 0.2), first_epoch=4)], "val_loss", "min"))
    (line,) = axis.lines
    assert list(line.get_xdata()) == [4, 5, 6, 7]
    np.testing.assert_equal(np.asarray(line.get_ydata()), [0.4, np.nan, np.nan, 0.2])


@pytest.mark.parametrize(
    "curve, direction, scale",
    [((1.0, 0.01), "min", "log"), ((1.0, 0.5), "min", "linear"), ((1.0, 0.01), "max", "linear")]
    + [((1.0, -0.01), "min", "linear"), ((NAN, INF), "min", "linear")],
)
def test_the_scale_of_curves(curve, direction, scale):
    assert only(curves([result(1, 0.5, curve)], "val_loss", direction)).get_yscale() == scale


def test_curves_of_failed_trials_only():
    axis = only(curves([result(1, None, (NAN,), "FAILED")], "val_loss", "min"))
    assert axis.get_legend() is None


def test_importance_bars():
    axis = only(importance_bars(Importance({"rate": 0.8, "cell": 0.15}, 0.05, 0.9)))
    assert [bar.get_width() for bar in axis.patches] == pytest.approx([80, 15, 5])
    assert [label.get_text() for label in axis.get_yticklabels()] == ["rate", "cell", "interactions"]
    assert [text.get_text() for text in axis.texts] == ["80%", "15%", "5%"]


@pytest.mark.parametrize("longest, unit, height", [(100, "seconds", 100), (600, "minutes", 10), (9000, "hours", 2.5)])
def test_the_unit_of_times_depends_on_the_longest(longest, unit, height):
    axis = only(times([result(1, 0.5, seconds=1.0), result(3, 0.5, seconds=longest), result(4)]))
    assert axis.get_ylabel() == unit
    assert [bar.get_x() + bar.get_width() / 2 for bar in axis.patches] == pytest.approx([1, 3])
    assert axis.patches[1].get_height() == pytest.approx(height)


def test_times_of_failed_trials_are_red():
    axis = only(times([result(1, 0.5, seconds=1.0), result(2, status="FAILED", seconds=1.0)]))
    good, failed = (bar.get_facecolor() for bar in axis.patches)
    assert failed[0] > 0.7 > good[0] and axis.get_xlabel() == "trial (red: failed)"


def points(axis):
    return np.asarray(axis.collections[0].get_offsets())


def test_a_slice_of_numbers():
    results = [result(1, 0.5, rate=0.1), result(2, 0.4, rate=0.001), result(3, NAN, rate=0.2), result(4, 0.3)]
    axis = only(slice_of(results, "rate", "val_loss", "min", logarithmic=True))
    np.testing.assert_allclose(points(axis), [[0.1, 0.5], [0.001, 0.4]])
    assert (axis.get_xscale(), axis.get_yscale(), axis.get_xlabel()) == ("log", "linear", "rate")
    assert only(slice_of(results, "rate", "val_loss", "min")).get_xscale() == "linear"


def test_a_slice_of_words():
    results = [result(i, i / 10, cell=["gru", "lstm"][i % 2]) for i in range(1, 7)]
    axis = only(slice_of(results, "cell", "val_loss", "min"))
    assert [label.get_text() for label in axis.get_xticklabels()] == ["gru", "lstm"]
    assert list(np.round(points(axis)[:, 0])) == [1, 0] * 3
    np.testing.assert_allclose(points(axis)[:, 1], np.arange(1, 7) / 10)


def test_trade_off_of_two_objectives():
    results = [result(i, 0.5, metrics={"error": i / 10, "seconds": 1.0 / i}) for i in (1, 2, 3)]
    axis = only(trade_off(results, results[:1], "error", "seconds"))
    beaten, front = (np.asarray(group.get_offsets()) for group in axis.collections)
    np.testing.assert_allclose(beaten, [[0.2, 0.5], [0.3, 1 / 3]])
    np.testing.assert_allclose(front, [[0.1, 1.0]])
    assert [text.get_text() for text in axis.texts] == ["1"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("error", "seconds")
