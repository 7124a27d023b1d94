"""Data are recreated only if a hyperparameter that they use has a different value."""

import keras_tuner as kt
import pytest

from keras_dl import Pipeline
from keras_dl.training.shared_data import SharedData

from .network import data


class Asking(Pipeline):
    """A pipeline whose data read a hyperparameter in some way, and are counted."""

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
def test_data_depend_only_on_the_values_that_they_read(ask):
    pipeline = Asking(ask)
    shared = SharedData(pipeline)
    first = shared(values(x=1, y=1))
    assert shared(values(x=1, y=2)) is first and pipeline.made == 1
    assert shared(values(x=2, y=1)) is not first and pipeline.made == 2
    assert shared(values(x=1, y=3)) is first


@pytest.mark.parametrize("ask", [ASKING["there"], ASKING["values, get"]], ids=["there", "values, get"])
def test_a_missing_value_differs_from_any_value(ask):
    shared = SharedData(Asking(ask))
    first = shared(values(y=1))
    assert shared(values(y=2)) is first
    assert shared(values(x=1)) is not first


@pytest.mark.parametrize(
    "ask",
    [lambda hp: dict(hp.values), lambda hp: {**hp.values}, lambda hp: sum(hp.values.values()), kt.HyperParameters.copy],
    ids=["dict", "unpacked", "sum", "copy"],
)
def test_data_that_read_all_values_are_always_recreated(ask):
    shared = SharedData(Asking(ask))
    assert shared(values(x=1)) is not shared(values(x=1))


def test_a_new_hyperparameter_is_added_to_the_values():
    given = values(y=1)
    SharedData(Asking(lambda hp: hp.Int("size", 3, 9)))(given)
    assert given.values == {"y": 1, "size": 3} and [entry.name for entry in given.space] == ["size"]
