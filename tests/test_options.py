"""Parsing and evaluation of objectives."""

import math

import keras_tuner as kt
import pytest

from keras_dl.errors import UserError
from keras_dl.options import Term, TrainingOptions, parse_objective

ROW = {"val_loss": 2.0, "val_accuracy": 0.75, "loss": 1.0, "val_gain": 5.0}


@pytest.mark.parametrize(
    ("text", "direction", "terms"),
    [
        ("val_loss", None, [("val_loss", "min", 1)]),
        ("loss", None, [("loss", "min", 1)]),
        ("val_accuracy", None, [("val_accuracy", "max", 1)]),
        ("val_accuracy", "min", [("val_accuracy", "min", 1)]),
        ("val_gain:max", None, [("val_gain", "max", 1)]),
        ("val_gain", "max", [("val_gain", "max", 1)]),
        ("val_loss:max", "min", [("val_loss", "max", 1)]),  # a direction given with the metric takes precedence
        ("val_accuracy,val_loss:0.1", None, [("val_accuracy", "max", 1), ("val_loss", "min", 0.1)]),
        (" val_gain:2:min , val_loss:max:.5", None, [("val_gain", "min", 2), ("val_loss", "max", 0.5)]),
        ("val_loss,val_gain:1e-3:max", "min", [("val_loss", "min", 1), ("val_gain", "max", 1e-3)]),
        ("val_hits@3,val_acc (%):2", None, [("val_hits@3", "max", 1), ("val_acc (%)", "max", 2)]),
        ("'val_mAP@[.5:.95]'", None, [("val_mAP@[.5:.95]", "max", 1)]),
        ("\"val_a,b\":min:2,'val_c:d':max", None, [("val_a,b", "min", 2), ("val_c:d", "max", 1)]),
        ("val_it's:min", None, [("val_it's", "min", 1)]),
    ],
)
def test_metrics_with_weights_and_directions(text, direction, terms):
    assert parse_objective(text, direction).terms == tuple(Term(*term) for term in terms)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("val_gain", "cannot infer the direction of 'val_gain': set direction = 'min' or 'max', or write"),
        ("val_loss,val_gain", "cannot infer the direction of 'val_gain'"),
        (
            "val_loss:0",
            r"expected NAME:WEIGHT \(above 0\), NAME:min or NAME:max, and quotes around a NAME with a colon",
        ),
        ("val_loss:-1", "Received: 'val_loss:-1'"),
        ("val_loss:inf", "Received: 'val_loss:inf'"),
        ("val_loss:up", "Received: 'val_loss:up'"),
        ("val_loss:", "Received: 'val_loss:'"),
        ("", "expected metrics separated by commas, each once. Received: ''"),
        ("val_loss,", "each once. Received: 'val_loss,'"),
        ("val_loss,val_loss:0.5", "each once. Received: 'val_loss,val_loss:0.5'"),
        (":max", "each once. Received: ':max'"),
    ],
)
def test_an_invalid_objective_is_reported(text, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_objective(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("given", [("val_loss", "min"), ["val_loss"], kt.Objective("val_loss", "min"), None])
def test_an_objective_that_is_not_text_is_reported(given):
    with pytest.raises(UserError, match="objective must be text, such as 'val_accuracy' or 'val_gain:max'. Received: "):
        TrainingOptions(objective=given)


def test_the_error_for_an_unknown_direction_can_be_copied():
    with pytest.raises(UserError, match="or write 'val_own:3':min or 'val_own:3':max"):
        parse_objective("'val_own:3'")
    assert parse_objective("'val_own:3':max").directions == {"val_own:3": "max"}


def test_the_direction_applies_only_to_the_first_metric():
    with pytest.raises(UserError, match="cannot infer the direction of 'val_gain'"):
        parse_objective("val_loss,val_gain", "max")


def test_the_value_of_one_metric_is_the_metric():
    objective = parse_objective("val_accuracy:3")
    assert (objective.name, objective.direction) == ("val_accuracy", "max")
    assert objective.value(ROW) == 0.75  # not three times as much
    assert objective.better_than(0.8, 0.75) and not objective.better_than(0.7, 0.75)


def test_several_metrics_give_a_weighted_sum_to_minimize():
    objective = parse_objective("val_accuracy:2,val_loss:0.1,val_gain:max:0.01")
    assert (objective.name, objective.direction) == ("objective", "min")
    assert objective.value(ROW) == pytest.approx(-2 * 0.75 + 0.1 * 2 - 0.01 * 5)
    assert objective.directions == {"val_accuracy": "max", "val_loss": "min", "val_gain": "max"}
    better = objective.value({**ROW, "val_accuracy": 0.8})
    assert objective.better_than(better, objective.value(ROW))


def test_a_sum_with_nan_is_nan():
    assert math.isnan(parse_objective("val_accuracy,val_loss").value({**ROW, "val_loss": math.nan}))


def test_missing_metrics_are_listed_in_order():
    objective = parse_objective("val_error,val_loss,val_recall")
    assert objective.missing(ROW) == ["val_error", "val_recall"]
    assert parse_objective("val_loss").missing(ROW) == []
