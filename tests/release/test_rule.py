"""The rule for the champion, on the tags of two versions."""

import math

import pytest

from keras_dl.release.rule import verdict


def tags(value, spread=None, direction="min", metric="error", fingerprint="same"):
    found = {"metric": metric, "value": repr(value), "direction": direction, "fingerprint": fingerprint}
    return found if spread is None else {**found, "spread": repr(spread)}


@pytest.mark.parametrize("direction", ["min", "max"])
def test_the_first_wins(direction):
    assert verdict(None, tags(0.5, direction=direction)) == (True, "the first version")


@pytest.mark.parametrize("direction, better, worse", [("min", 0.1, 0.9), ("max", 0.9, 0.1)])
def test_without_spreads_any_gain_wins(direction, better, worse):
    held = tags(0.5, direction=direction)
    assert verdict(held, tags(better, direction=direction)) == (True, f"error {better} beats 0.5")
    reason = f"error {worse} does not beat the champion's 0.5"
    assert verdict(held, tags(worse, direction=direction)) == (False, reason)
    assert verdict(held, tags(0.5, direction=direction))[0] is False


def test_values_count_in_full():
    assert verdict(tags(0.1 + 0.2), tags(0.3)) == (True, "error 0.3 beats 0.3")


@pytest.mark.parametrize("direction, value", [("min", 0.375), ("max", 0.625)])
@pytest.mark.parametrize("held, new", [(0.125, None), (None, 0.125), (0.125, 0.0625), (0.0625, 0.125)])
def test_a_gain_of_no_more_than_the_larger_spread_is_noise(direction, value, held, new):
    champion = tags(0.5, held, direction)
    wins, why = verdict(champion, tags(value, new, direction))
    assert (wins, why) == (False, f"error {value:.4g} beats the champion's 0.5 by no more than noise, 0.12")
    beyond = math.nextafter(value, 0.0 if direction == "min" else 1.0)
    wins, why = verdict(champion, tags(beyond, new, direction))
    assert (wins, why) == (True, f"error {value:.4g} beats 0.5 by more than noise, 0.12")


@pytest.mark.parametrize("spread", [math.nan, math.inf, 0.0])
def test_a_spread_that_says_nothing_counts_as_none(spread):
    assert verdict(tags(0.5, spread), tags(0.4, spread)) == (True, "error 0.4 beats 0.5")


@pytest.mark.parametrize("direction", ["min", "max"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_never_wins(direction, value):
    for present in (None, tags(0.5, direction=direction)):
        assert verdict(present, tags(value, direction=direction)) == (False, f"error is {value}")


def test_another_metric_does_not_compare():
    reason = "the champion was judged by error, this one by loss"
    assert verdict(tags(0.5), tags(0.1, metric="loss")) == (False, reason)


def test_other_test_data_do_not_compare():
    reason = "the champion was judged on other test data"
    assert verdict(tags(0.5), tags(0.1, fingerprint="other")) == (False, reason)


def test_a_champion_without_tags_is_not_replaced():
    assert verdict({}, tags(0.1)) == (False, "the champion was judged by None, this one by error")


@pytest.mark.parametrize("held", [math.nan, math.inf, -math.inf])
def test_a_champion_by_hand_whose_value_is_no_number_is_beaten(held):
    assert verdict(tags(held), tags(0.1)) == (True, f"error 0.1 beats {held}")
