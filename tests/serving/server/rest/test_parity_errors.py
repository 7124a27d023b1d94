"""What is taken list by list is what value by value is found to be in order, and nothing else."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_dl.serving.server.rest.codec import Document, decode_predict
from keras_dl.serving.server.rest.parity_errors import refuse_column, refuse_rows, shown

LAST_RESORT = "not formatted correctly"  # and no reason: the two would disagree
LEAVES = st.one_of(
    st.sampled_from([0, 1, -1, 1.5, 255, 256, 2**31, 2**63, 2**64 - 1, 2.0**64, True, False, None, "a", "é"]),
    st.sampled_from([{"b64": "AA=="}, {"b64": "?"}, {"b64": 1}, {"x": 1}, {}]),
    st.floats(),
)
REGULAR = st.integers(0, 3).flatmap(
    lambda rank: st.lists(st.integers(0, 3), min_size=rank, max_size=rank).flatmap(
        lambda shape: LEAVES.map(lambda leaf: nested(leaf, shape))
    )
)
VALUES = st.one_of(
    REGULAR,
    st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.lists(REGULAR, max_size=3), max_leaves=8),
)
DTYPES = st.sampled_from([tf.float32, tf.float64, tf.int8, tf.uint8, tf.int64, tf.uint64, tf.bool, tf.string, tf.half])


def nested(leaf, shape):
    return [nested(leaf, shape[1:]) for _ in range(shape[0])] if shape else leaf


def has_booleans(value):
    return value is True or value is False or isinstance(value, list) and any(map(has_booleans, value))


def refusal(function, *arguments):
    with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.UnimplementedError)) as caught:
        function(*arguments)
    return caught.value.message


def agree(document, dtype, refuse, *arguments):
    """Either decoded, and nothing is wrong with it; or refused, for a reason."""
    try:
        (array,) = decode_predict(document, {"serving_default": {"x": dtype}}).inputs.values()
    except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
        assert error.message == refusal(refuse, *arguments)
        assert not error.message.endswith(LAST_RESORT) or dtype == tf.half
    else:
        assert refusal(refuse, *arguments).endswith(LAST_RESORT)
        assert array.dtype == (object if dtype == tf.string else dtype.as_numpy_dtype)
        return array


def is_objects(value):
    return isinstance(value, dict) and not (value.keys() == {"b64"} and isinstance(value["b64"], str))


@given(VALUES, DTYPES)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_columns(value, dtype):
    members = {"inputs": {"x": value}}
    array = agree(Document(members, may_have_booleans=has_booleans(value)), dtype, refuse_column, value, dtype)
    if array is not None and dtype.is_floating:
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(array, np.array(value, np.float64).astype(array.dtype))


@given(st.lists(VALUES, min_size=1, max_size=4) | REGULAR.map(lambda value: [value, value]), DTYPES)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_rows(rows, dtype):
    for given_rows in (rows, [{"x": row} for row in rows]):
        document = Document({"instances": given_rows}, may_have_booleans=has_booleans(rows))
        agree(document, dtype, refuse_rows, given_rows, {"x": dtype}, is_objects(given_rows[0]))


def test_messages_show_the_beginning_of_a_value():
    assert shown({"a": [1, True, None, "é"]}) == '{"a": [1, true, null, "é"]}'
    assert shown("x" * 10**6) == '"' + "x" * 255
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == "[" * 256
