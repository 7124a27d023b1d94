"""`codec` accepts the same values list by list as `parity_errors` does value by value."""

import random

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.serving.server.rest.codec import Document, decode_predict
from keras_dl.serving.server.rest.parity_errors import refuse_column, refuse_rows, shown

LAST_RESORT = "not formatted correctly"  # without a reason: codec and parity_errors would disagree
LEAVES = [0, 1, -1, 1.5, 255, 256, 2**31, 2**63, 2**64 - 1, 2.0**64, True, False, None, "a", "é"]
LEAVES += [{"b64": "AA=="}, {"b64": "?"}, {"b64": 1}, {"x": 1}, {}, -0.0, 1e308, 1e-310, float("nan"), float("-inf")]
DTYPES = [tf.float32, tf.float64, tf.int8, tf.uint8, tf.int64, tf.uint64, tf.bool, tf.string, tf.half]


def random_value(draw: random.Random, depth=3):
    """Mostly arrays of one leaf, sometimes irregular lists."""
    if depth and draw.random() < 0.4:
        return [random_value(draw, depth - 1) for _ in range(draw.randrange(4))]
    return nested(draw.choice(LEAVES), [draw.randrange(4) for _ in range(draw.randrange(4))])


def nested(leaf, shape):
    return [nested(leaf, shape[1:]) for _ in range(shape[0])] if shape else leaf


def has_booleans(value):
    return value is True or value is False or isinstance(value, list) and any(map(has_booleans, value))


def error_of(function, *arguments):
    with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.UnimplementedError)) as caught:
        function(*arguments)
    return caught.value.message


def agree(document, dtype, refuse, *arguments):
    """Checks that a value is decoded if it has no error, and otherwise rejected with a reason; returns the array."""
    try:
        (array,) = decode_predict(document, {"serving_default": {"x": dtype}}).inputs.values()
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
        assert error.message == error_of(refuse, *arguments)
        assert not error.message.endswith(LAST_RESORT) or dtype == tf.half
    else:
        assert error_of(refuse, *arguments).endswith(LAST_RESORT)
        assert array.dtype == (object if dtype == tf.string else dtype.as_numpy_dtype)
        return array


def is_objects(value):
    return isinstance(value, dict) and not (value.keys() == {"b64"} and isinstance(value["b64"], str))


def test_columns():
    draw = random.Random(0)
    decoded = 0
    for _ in range(2000):
        value, dtype = random_value(draw), draw.choice(DTYPES)
        members = {"inputs": {"x": value}}
        array = agree(Document(members, may_have_booleans=has_booleans(value)), dtype, refuse_column, value, dtype)
        decoded += array is not None
        if array is not None and dtype.is_floating:
            with np.errstate(over="ignore"):
                np.testing.assert_array_equal(array, np.array(value, np.float64).astype(array.dtype))
    assert decoded > 100


def test_rows():
    draw = random.Random(0)
    decoded = 0
    for _ in range(2000):
        rows, dtype = [random_value(draw) for _ in range(draw.randint(1, 4))], draw.choice(DTYPES)
        rows = rows if draw.random() < 0.5 else rows[:1] * 2
        for given_rows in (rows, [{"x": row} for row in rows]):
            document = Document({"instances": given_rows}, may_have_booleans=has_booleans(rows))
            arguments = given_rows, {"x": dtype}, is_objects(given_rows[0])
            decoded += agree(document, dtype, refuse_rows, *arguments) is not None
    assert decoded > 100


def test_messages_contain_the_beginning_of_a_value():
    assert shown({"a": [1, True, None, "é"]}) == '{"a": [1, true, null, "é"]}'
    assert shown("x" * 10**6) == '"' + "x" * 255
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == "[" * 256
