"""JSON text: what is accepted, what is refused and in which words; the slow reader agrees with orjson."""

import json
import math

import orjson
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_dl.serving.server.rest.json_text import _Reader, parse


def read(body):
    """What the slow reader makes of a text, or its refusal."""
    try:
        return _Reader(body, 1000).document()
    except tf.errors.InvalidArgumentError as error:
        return error.message


def refusal(body):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        parse(body)
    return caught.value.message


@pytest.mark.parametrize(
    "body, message",
    [
        (b"", "The document is empty"),
        (b" \r\n\t", "The document is empty. at offset: 4"),
        (b"\0", "The document is empty. at offset: 0"),
        (b"instances = [1, 2]", "Invalid value. at offset: 0"),
        (b"[1,", "Invalid value. at offset: 3"),
        (b"[1, 2", "Missing a comma or ] after an array element. at offset: 5"),
        (b"[1 2]", "Missing a comma or ] after an array element. at offset: 3"),
        (b"[1,]", "Invalid value. at offset: 3"),
        (b"[01]", "Missing a comma or ] after an array element. at offset: 2"),
        (b"[[], tru]", "Invalid value. at offset: 5"),
        (b"{", "Missing a name for object member. at offset: 1"),
        (b"{a: 1}", "Missing a name for object member. at offset: 1"),
        (b'{"a"', "Missing a colon after a name of object member. at offset: 4"),
        (b'{"a": 1', "Missing a comma or } after an object member. at offset: 7"),
        (b'{"a": 1,}', "Missing a name for object member. at offset: 8"),
        (b'"a', "Missing a closing quotation mark in string. at offset: 0"),
        (b'"a\\"', "Missing a closing quotation mark in string. at offset: 0"),
        (b'"a\nb"', "Invalid encoding in string. at offset: 0"),
        (rb'"\a"', "Invalid escape character in string. at offset: 0"),
        (rb'"\u12g4"', "Incorrect hex digit after \\u escape in string. at offset: 0"),
        (rb'"\ud800"', "The surrogate pair in string is invalid. at offset: 0"),
        (rb'{"ignored": "\udc00\ud800"}', "The surrogate pair in string is invalid. at offset: 12"),
        (b"[1.]", "Miss fraction part in number. at offset: 1"),
        (b"[1e]", "Miss exponent in number. at offset: 1"),
        (b"[1e400]", "Number too big to be stored in double. at offset: 1"),
        (b"[-" + b"9" * 5000 + b"]", "Number too big to be stored in double. at offset: 1"),
        (b".5", "Invalid value. at offset: 0"),
        (b"+5", "Invalid value. at offset: 0"),
    ],
)
def test_refusals(body, message):
    assert refusal(body) == f"JSON Parse error: {message}"


@pytest.mark.parametrize(
    "body, value",
    [
        (b"\xef\xbb\xbf [1] and more", [1]),
        (b"[1]\0", [1]),
        (b"[Infinity, -Infinity, Inf, -Inf, 1]", [math.inf, -math.inf, math.inf, -math.inf, 1]),
        (b"[18446744073709551615, -9223372036854775808]", [2**64 - 1, -(2**63)]),
        (b"[18446744073709551616, -9223372036854775809]", [2.0**64, -(2.0**63)]),
        (b"[18446744073709551616, NaN]", [2.0**64, math.nan]),
        (b'["\xff", {"\xc3\xa9": "\xf0\x9f\x98\x80"}]', ["\udcff", {"é": "😀"}]),
        (rb'["\ud83d\ude00\u00e9\n\/\"", {}, [], NaN]', ['😀é\n/"', {}, [], math.nan]),
        (b"[-0, -0.0, 1e-400]", [0, -0.0, 0.0]),
    ],
)
def test_values(body, value):
    found = parse(body)
    assert repr(found) == repr(value)


def test_nesting_has_a_limit():
    assert parse(b"[" * 3000 + b"]" * 3000, most_levels=3000)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Nested deeper than 2000 levels"):
        parse(b"[" * 3000 + b"]" * 3000, most_levels=2000)


def test_reading_slowly_has_a_deadline():
    body = b'{"a": [Inf,' + b"{}," * 3000 + b"1]}"
    with pytest.raises(tf.errors.DeadlineExceededError, match="took too long to read"):
        parse(body, seconds=0.0)
    assert len(parse(body)["a"]) == 3002


def test_reading_slowly_has_a_largest_size():
    spaces = b" " * 2**24
    assert parse(spaces + b"[1]") == [1]
    with pytest.raises(tf.errors.InvalidArgumentError, match="JSON Parse error: .* not accepted above 16777216 bytes"):
        parse(spaces + b"[NaN]")


def test_a_list_with_nan_is_read_whole(monkeypatch):
    monkeypatch.setattr("keras_dl.serving.server.rest.json_text._decimal", None)  # what is called for a single number
    found = parse(b'{"x": [NaN, 1.5, -Infinity], "y": [[Infinity, 123456789012345678, 1e99]]}')
    assert repr(found) == repr({"x": [math.nan, 1.5, -math.inf], "y": [[math.inf, 123456789012345678, 1e99]]})


@pytest.mark.parametrize("number", [b"1e309", b"-1e+0400", b"9" * 310, b"1" * 300 + b"e99"])
def test_numbers_beyond_doubles_are_refused_beside_nan(number):
    assert "Number too big to be stored in double. at offset: 5" in refusal(b"[NaN," + number + b"]")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON, st.booleans(), st.sampled_from([None, 1]))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_both_readers_agree_on_json(value, ascii_only, indent):
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode(errors="replace")
    assert repr(read(body)) == repr(orjson.loads(body))


@given(JSON, st.data())
@settings(max_examples=500, deadline=None, derandomize=True)
def test_both_readers_agree_on_what_is_nearly_json(value, data):
    body = json.dumps(value).encode()
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(body)))
        piece = data.draw(st.sampled_from([b"", *(bytes([byte]) for byte in b'[]{},:"1.e-\\tu \x00\xff')]))
        body = body[:position] + piece + body[position + data.draw(st.integers(0, 2)) :]
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        read(body)  # a value or a refusal, and nothing else
    else:
        assert repr(read(body)) == repr(value)
