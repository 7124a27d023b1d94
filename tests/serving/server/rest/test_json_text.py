"""JSON text: accepted and rejected texts, error messages, and agreement of the slow reader with orjson."""

import json
import math
import random
import struct

import orjson
import pytest
import tensorflow as tf

from keras_dl.serving.server.rest.json_text import _Reader, parse


def read(body):
    """Returns the result of the slow reader, or its error message."""
    try:
        return _Reader(body, 1000).document()
    except tf.errors.InvalidArgumentError as error:
        return error.message


def error_of(body):
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
def test_errors(body, message):
    assert error_of(body) == f"JSON Parse error: {message}"


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


def test_nesting_is_limited():
    assert parse(b"[" * 3000 + b"]" * 3000, most_levels=3000)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Nested deeper than 2000 levels"):
        parse(b"[" * 3000 + b"]" * 3000, most_levels=2000)


def test_the_slow_reader_has_a_deadline():
    body = b'{"a": [Inf,' + b"{}," * 3000 + b"1]}"
    with pytest.raises(tf.errors.DeadlineExceededError, match="took too long to read"):
        parse(body, seconds=0.0)
    assert len(parse(body, seconds=math.inf)["a"]) == 3002


def test_the_slow_reader_has_a_maximum_size():
    spaces = b" " * 2**24
    assert parse(spaces + b"[1]") == [1]
    with pytest.raises(tf.errors.InvalidArgumentError, match="JSON Parse error: .* not accepted above 16777216 bytes"):
        parse(spaces + b"[NaN]")


def test_a_list_with_nan_is_parsed_at_once(monkeypatch):
    monkeypatch.setattr("keras_dl.serving.server.rest.json_text._decimal", None)  # would be called for a single number
    found = parse(b'{"x": [NaN, 1.5, -Infinity], "y": [[Infinity, 123456789012345678, 1e99]]}')
    assert repr(found) == repr({"x": [math.nan, 1.5, -math.inf], "y": [[math.inf, 123456789012345678, 1e99]]})


@pytest.mark.parametrize("number", [b"1e309", b"-1e+0400", b"9" * 310, b"1" * 300 + b"e99"])
def test_numbers_beyond_doubles_are_rejected_next_to_nan(number):
    assert "Number too big to be stored in double. at offset: 5" in error_of(b"[NaN," + number + b"]")


NUMBERS = [0, -1, 2**31, 2**53 + 1, -(2**63), 2**63, 2**64 - 1, 2**64, -(2**65)]
NUMBERS += [-0.0, 0.1, 5e-324, 1.7976931348623157e308, -1e16, 1e22]
CHARACTERS = 'ab\0\t\n\x1f"\\\\/\x7f\x80éß\u2028\ufeff\uffff\U0001f600'


def random_json(draw: random.Random, depth=4):
    kind = draw.randrange(8 if depth else 6)
    if kind < 2:
        return draw.choice([None, True, False, *NUMBERS])
    if kind == 2:
        return draw.randrange(-(2**70), 2**70) >> draw.randrange(70)
    if kind == 3:
        (number,) = struct.unpack("d", draw.randbytes(8))
        return number if math.isfinite(number) else 0.5
    if kind < 6:
        return random_text(draw)
    items = [random_json(draw, depth - 1) for _ in range(draw.randrange(6))]
    return items if kind == 6 else {random_text(draw): item for item in items}


def random_text(draw):
    return "".join(draw.choices(CHARACTERS, k=draw.randrange(6)))


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("indent", [None, 1])
def test_both_readers_agree_on_json(ascii_only, indent):
    draw = random.Random(0)
    for _ in range(1000):
        body = json.dumps(random_json(draw), ensure_ascii=ascii_only, indent=indent).encode()
        assert repr(read(body)) == repr(orjson.loads(body))


def test_both_readers_agree_on_json_with_errors():
    draw = random.Random(0)
    pieces = [b"", *(bytes([byte]) for byte in b'[]{},:"1.e-\\tu \x00\xff')]
    valid = 0
    for _ in range(5000):
        body = json.dumps(random_json(draw)).encode()
        for _ in range(draw.randrange(1, 4)):
            position = draw.randint(0, len(body))
            body = body[:position] + draw.choice(pieces) + body[position + draw.randrange(3) :]
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            read(body)  # returns a value or an error, and raises nothing else
        else:
            valid += 1
            assert repr(read(body)) == repr(value)
    assert valid > 300
