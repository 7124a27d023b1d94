"""`verdict` on the tags of two versions."""

import math

import pytest

from keras_dl.release.registry import verdict


def tags(value, spread=None, direction="min", metric="error", fingerprint="same"):
    found = {"metric": metric, "value": repr(value), "direction": direction, "fingerprint": fingerprint}
    return found if spread is None else {**found, "spread": repr(spread)}


@pytest.mark.parametrize("direction", ["min", "max"])
def test_the_first_version_wins(direction):
    assert verdict(None, tags(0.5, direction=direction)) == (True, "the first version")


@pytest.mark.parametrize("direction, better, worse", [("min", 0.1, 0.9), ("max", 0.9, 0.1)])
def test_without_spreads_any_gain_wins(direction, better, worse):
    champion = tags(0.5, direction=direction)
    assert verdict(champion, tags(better, direction=direction)) == (True, f"error {better} beats 0.5")
    reason = f"error {worse} does not beat the champion's 0.5"
    assert verdict(champion, tags(worse, direction=direction)) == (False, reason)
    assert verdict(champion, tags(0.5, direction=direction))[0] is False


def test_values_are_compared_with_full_precision():
    assert verdict(tags(0.1 + 0.2), tags(0.3)) == (True, "error 0.3 beats 0.3")


@pytest.mark.parametrize("direction, value", [("min", 0.375), ("max", 0.625)])
@pytest.mark.parametrize("old, new", [(0.125, None), (None, 0.125), (0.125, 0.0625), (0.0625, 0.125)])
def test_a_gain_up_to_the_larger_spread_does_not_win(direction, value, old, new):
    champion = tags(0.5, old, direction)
    wins, why = verdict(champion, tags(value, new, direction))
    assert (wins, why) == (False, f"error {value:.4g} beats the champion's 0.5 by no more than the noise, 0.12")
    beyond = math.nextafter(value, 0.0 if direction == "min" else 1.0)
    wins, why = verdict(champion, tags(beyond, new, direction))
    assert (wins, why) == (True, f"error {value:.4g} beats 0.5 by more than the noise, 0.12")


@pytest.mark.parametrize("spread", [math.nan, math.inf, 0.0])
def test_a_zero_or_non_finite_spread_is_ignored(spread):
    assert verdict(tags(0.5, spread), tags(0.4, spread)) == (True, "error 0.4 beats 0.5")


@pytest.mark.parametrize("direction", ["min", "max"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_non_finite_value_never_wins(direction, value):
    for present in (None, tags(0.5, direction=direction)):
        assert verdict(present, tags(value, direction=direction)) == (False, f"error is {value}")


def test_different_metrics_are_not_comparable():
    reason = "the champion was judged by error, this one by loss"
    assert verdict(tags(0.5), tags(0.1, metric="loss")) == (False, reason)


def test_different_test_data_are_not_comparable():
    reason = "the champion was judged on different test data"
    assert verdict(tags(0.5), tags(0.1, fingerprint="other")) == (False, reason)


def test_a_champion_without_tags_is_not_replaced():
    assert verdict({}, tags(0.1)) == (False, "the champion was judged by None, this one by error")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_champion_with_a_non_finite_value_is_replaced(value):
    assert verdict(tags(value), tags(0.1)) == (True, f"error 0.1 beats {value}")
