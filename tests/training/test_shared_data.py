"""Data are made anew only where a value differs that was asked for, however it was asked."""

import keras_tuner as kt
import pytest

from keras_dl import Pipeline
from keras_dl.training.shared_data import SharedData

from .network import data


class Asking(Pipeline):
    """Its data ask in some way, and are counted."""

    def __init__(self, ask):
        self.ask, self.made = ask, 0

    def data(self, hp):
        self.made += 1
        self.ask(hp)
        return data()


def values(**given):
    hp = kt.HyperParameters()
    hp.values.update(given)
    if "x" in given:
        hp.Choice("x", [1, 2])
    return hp


def conditional(hp):
    with hp.conditional_scope("x", [2]):
        hp.Int("size", 1, 9)


ASKING = {
    "choice": lambda hp: hp.Choice("x", [1, 2]),
    "get": lambda hp: hp.get("x"),
    "item": lambda hp: hp["x"],
    "there": lambda hp: "x" in hp,
    "values": lambda hp: hp.values["x"],
    "values, there": lambda hp: "x" in hp.values,
    "values, get": lambda hp: hp.values.get("x"),
    "a condition": conditional,
}


@pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING)
def test_another_value_means_other_data_and_other_values_do_not(ask):
    pipeline = Asking(ask)
    shared = SharedData(pipeline)
    first = shared(values(x=1, y=1))
    assert shared(values(x=1, y=2)) is first and pipeline.made == 1
    assert shared(values(x=2, y=1)) is not first and pipeline.made == 2
    assert shared(values(x=1, y=3)) is first


@pytest.mark.parametrize("ask", [ASKING["there"], ASKING["values, get"]], ids=["there", "values, get"])
def test_a_value_that_was_not_there_is_another_one_when_it_is(ask):
    shared = SharedData(Asking(ask))
    first = shared(values(y=1))
    assert shared(values(y=2)) is first
    assert shared(values(x=1)) is not first


@pytest.mark.parametrize(
    "ask",
    [lambda hp: dict(hp.values), lambda hp: {**hp.values}, lambda hp: sum(hp.values.values()), kt.HyperParameters.copy],
    ids=["dict", "unpacked", "sum", "copy"],
)
def test_data_that_read_all_values_are_made_anew(ask):
    shared = SharedData(Asking(ask))
    assert shared(values(x=1)) is not shared(values(x=1))


def test_what_is_asked_for_the_first_time_becomes_a_value():
    given = values(y=1)
    SharedData(Asking(lambda hp: hp.Int("size", 3, 9)))(given)
    assert given.values == {"y": 1, "size": 3} and [entry.name for entry in given.space] == ["size"]
