"""Traced numbers: Python's arithmetic, and a record of every decision that depends on a number."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.training.reuse.traced_numbers import TracedNumber, TracedNumbers


def make(value):
    place = {"rate": value}
    numbers = TracedNumbers([(place, "rate")])
    return numbers, TracedNumber(numbers, ("place", 0)), place


def trace(function, value):
    """Returns the graph of a function of a traced number, the numbers and the place of the number."""
    numbers, number, place = make(value)
    graph = tf.function(lambda: function(number))
    return graph, numbers, place


FUNCTIONS = {
    "scale": lambda rate: tf.constant([1.0, 2.0]) * (1 / (1 - rate)),
    "from the left": lambda rate: (2 * rate + 1) * tf.constant(3.0),
    "power": lambda rate: keras.ops.power(tf.constant(2.0), rate**2),
    "double": lambda rate: tf.constant([3.0], "float64") / (rate - 1),
    "half": lambda rate: tf.constant([3.0], "bfloat16") * -rate,
    "keras": lambda rate: keras.ops.multiply(tf.constant([3.0], "float16"), rate),
    "cast": lambda rate: keras.ops.cast(rate, "float32") + abs(rate),
    "comparison": lambda rate: tf.constant([0.1, 0.3, 0.9]) >= rate,
    "dropout": lambda rate: tf.nn.experimental.stateless_dropout(tf.ones(50), rate, seed=[1, 2]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_graph_is_valid_for_other_numbers(name):
    graph, numbers, place = trace(FUNCTIONS[name], 0.3)
    graph()
    traces = graph.experimental_get_tracing_count()
    for value in (0.3, 0.7):
        assert numbers.fit([value])
        numbers.assign([value])
        assert place["rate"] == value
        expected = tf.function(lambda value=value: FUNCTIONS[name](value))()
        result = graph()
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)
    assert graph.experimental_get_tracing_count() == traces


def test_integers():
    graph, numbers, _ = trace(lambda steps: tf.cast(steps, tf.float32) / 2, 7)
    assert graph() == 3.5
    assert numbers.fit([2**31 - 1])
    assert not numbers.fit([2**31])  # does not fit in int32
    numbers.assign([9])
    assert graph() == 4.5


@pytest.mark.parametrize(
    ("decision", "fits", "differs"),
    [
        (lambda rate: 1 if rate else 2, 0.1, 0.0),
        (lambda rate: rate > 0.2, 0.25, 0.1),
        (lambda rate: 1 - rate == 0.7, 0.3, 0.4),
        (lambda rate: math.sqrt(rate), 0.3, 0.4),
        (lambda rate: float(rate), 0.3, 0.4),
        (lambda rate: np.float32(rate), 0.3, 0.4),
        (lambda rate: np.asarray(rate), 0.3, 0.4),
        (lambda rate: {0.3: 1}.get(rate), 0.3, 0.4),
        (lambda rate: rate.is_integer(), 0.3, 0.4),
        (lambda rate: round(10 * rate), 0.3, 0.4),
        (lambda rate: 1 / rate > 2, 0.4, 0.0),  # division by zero
    ],
)
def test_decisions_in_python_are_recorded(decision, fits, differs):
    numbers, number, _ = make(0.3)
    assert np.array_equal(decision(number), decision(0.3))
    assert numbers.fit([fits])
    assert not numbers.fit([differs])


def test_it_behaves_like_a_number():
    _, number, _ = make(0.3)
    assert isinstance(number, float)
    assert f"{number} {number:.2f} {number!r}" == "0.3 0.30 0.3"
    assert not hasattr(number, "shape")
    with pytest.raises(TypeError):
        number + "a"
