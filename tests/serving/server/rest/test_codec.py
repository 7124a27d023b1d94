"""Tensors in JSON: the predict cases of TF Serving's util/json_tensor_test.cc, and more."""

import json
import math
import random

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.serving.server.inputs import Input
from keras_dl.serving.server.rest.codec import Document, decode_predict, encode_predict, read_document

INT = {"default": tf.int32}
FLOAT = {"x": tf.float32}
STRING = {"s": tf.string}
MIXED = {"i": tf.int32, "s": tf.string, "f": tf.float32, "d": tf.float64}


def signature(dtypes):
    return {name: Input(name, dtype, None) for name, dtype in dtypes.items()}


def decode(body, dtypes):
    body = body if isinstance(body, bytes | str) else json.dumps(body)
    document = read_document(body if isinstance(body, bytes) else body.encode())
    return decode_predict(document, {"serving_default": signature(dtypes), "other": signature(INT)})


def values(body, dtypes):
    (array,) = decode(body, dtypes).inputs.values()
    return array


def error_of(body, dtypes=FLOAT):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        decode(body, dtypes)
    return caught.value.message


@pytest.mark.parametrize("key, rows", [("instances", True), ("inputs", False)])
def test_the_name_of_a_single_input_may_be_omitted(key, rows):
    request = decode({key: [[1, 2], [3, 4], [5, 6]]}, INT)
    assert request.rows is rows and request.signature_name == "serving_default"
    array = request.inputs["default"]
    assert array.dtype == np.int32
    np.testing.assert_array_equal(array, [[1, 2], [3, 4], [5, 6]])


@pytest.mark.parametrize(
    "dtype, text",
    [
        (tf.float32, "[1, 2.5, -0.0, 1e-3]"),
        (tf.float64, "[1, 2.5, 0.1]"),
        (tf.int8, "[-128, 127]"),
        (tf.uint8, "[0, 255]"),
        (tf.int16, "[-32768]"),
        (tf.int64, "[-9223372036854775808, 9223372036854775807]"),
        (tf.uint32, "[4294967295]"),
        (tf.uint64, "[18446744073709551615]"),
        (tf.bool, "[true, false]"),
    ],
)
def test_the_dtype_comes_from_the_signature(dtype, text):
    array = values(f'{{"instances": {text}}}', {"x": dtype})
    assert array.dtype == dtype.as_numpy_dtype
    assert array.tolist() == np.array(json.loads(text), dtype.as_numpy_dtype).tolist()


def test_the_shape_comes_from_the_data():
    assert values({"inputs": 3}, FLOAT).shape == ()
    assert values({"inputs": []}, FLOAT).shape == (0,)
    assert values({"instances": [[], []]}, FLOAT).shape == (2, 0)
    assert values({"instances": [[[1], [2], [3]]]}, FLOAT).shape == (1, 3, 1)


def test_nan_infinities_and_numbers_too_large_for_float32():
    array = values('{"instances": [NaN, Infinity, 3, -Infinity, 1.7976931348623157e+308, 1435774380]}', FLOAT)
    assert math.isnan(array[0])
    assert array[1:].tolist() == [math.inf, 3.0, -math.inf, math.inf, 1435774336.0]


def test_several_inputs_in_rows_and_in_columns():
    rows = [
        {"i": [[1, 2]], "s": ["foo", "bar"], "f": [1.0], "d": 0.1},
        {"i": [[3, 4]], "s": ["baz", "bat"], "f": [2.0], "d": 0.2},
    ]
    columns = {key: [row[key] for row in rows] for key in MIXED}
    for body in ({"instances": rows}, {"inputs": columns | {"unknown": 1}}):
        inputs = decode(body, MIXED).inputs
        assert inputs["i"].tolist() == [[[1, 2]], [[3, 4]]]
        assert inputs["s"].tolist() == [[b"foo", b"bar"], [b"baz", b"bat"]]
        assert inputs["f"].dtype == np.float32 and inputs["d"].tolist() == [0.1, 0.2]


def test_strings_and_base64():
    b64 = {"b64": "aGVsbG8="}
    assert values({"instances": [b64, "wörld", {"b64": "AP8"}]}, STRING).tolist() == [
        b"hello",
        "wörld".encode(),
        b"\0\xff",
    ]
    assert values({"instances": [{"s": [[b64]]}]}, STRING).tolist() == [[[b"hello"]]]
    assert values({"inputs": b64}, STRING).tolist() == b"hello"
    assert values({"inputs": {"s": b64}}, STRING).tolist() == b"hello"


def test_a_byte_order_mark_is_ignored():
    assert values(b'\xef\xbb\xbf {"instances": [1]}', FLOAT).tolist() == [1.0]


def test_nan_next_to_other_values():
    assert values('{"instances": ["NaN", "\\u00e9"], "more": [NaN, {"a": [null, true, "b", 18446744073709551615]}]}',
                  STRING).tolist() == [b"NaN", "é".encode()]  # fmt: skip
    assert values('{"instances": [18446744073709551615], "more": NaN}', {"x": tf.uint64}).tolist() == [2**64 - 1]


def test_the_signature_is_selected_by_name():
    assert decode({"signature_name": "other", "instances": [1]}, FLOAT).signature_name == "other"
    assert decode({"signature_name": "", "instances": [1]}, FLOAT).signature_name == "serving_default"
    assert error_of({"signature_name": "nope", "instances": [1]}) == (
        'expected a signature of the model: serving_default, other. Received: "nope"'
    )
    assert error_of({"instances": [1]}, {}) == "signature serving_default has no inputs"


@pytest.mark.parametrize(
    "body, message",
    [
        (b"", "expected a JSON object. Received: an empty body"),
        (b" \n", "expected a JSON object. Received: an empty body"),
        (b"inputs = [1]", "expected a JSON object. Received: Expecting value: line 1 column 1 (char 0)"),
        (b'{"inputs": [1,', "expected a JSON object. Received: Expecting value: line 1 column 15 (char 14)"),
        (b'{"inputs": [[1]}', "expected a JSON object. Received: Expecting ',' delimiter: line 1 column 16 (char 15)"),
        (b'{"inputs": 1} X', "expected a JSON object. Received: Extra data: line 1 column 15 (char 14)"),
        (b'{"inputs": ["a\nb"]}', "Invalid control character at"),
        (b'{"inputs": ["\xff"]}', 'expected UTF-8; other bytes are sent as {"b64": ...}. Received: '),
        (b'{"inputs": 1e400}', "expected a JSON object. Received: 1e400, which is too large for a double"),
        ([1, 2], 'expected a JSON object such as {"inputs": ...}. Received: a list of 2 items'),
        ({"signature_name": 100}, 'expected "signature_name" to be a string. Received: 100'),
        ({}, 'expected either "instances" or "inputs". Received: the keys none'),
        ({"input": [1]}, 'expected either "instances" or "inputs". Received: the keys input'),
        ({"instances": [1], "inputs": [1]}, 'expected either "instances" or "inputs". Received: both'),
        ({"instances": 5}, 'expected "instances" to be a list with at least one item. Received: 5'),
        ({"instances": []}, 'expected "instances" to be a list with at least one item. Received: an empty list'),
    ],
)
def test_malformed_requests(body, message):
    assert message in error_of(body)


@pytest.mark.parametrize(
    "body, received",
    [
        ({"instances": [[1, 2], ["a", "b"]]}, '"a" at instances[1][0]'),
        ({"instances": [{"x": 1}, {"x": "a"}]}, '"a" at instances[1].x'),
        ({"instances": [{"x": [1, 2]}, {"x": [1, None]}]}, "null at instances[1].x[1]"),
        ({"inputs": [1, [2]]}, "a list of 1 item at inputs[1]"),
        ({"inputs": {"x": [[1], 2]}}, "2 at inputs.x[1]"),
        ({"inputs": [[1, 2], [3]]}, "a list of 1 item, not 2 as before it, at inputs[1]"),
        ({"instances": [[[1], [2, 3]]]}, "a list of 2 items, not 1 as before it, at instances[0][1]"),
        ({"instances": [[1, True]]}, "true at instances[0][1]"),
        ({"instances": [{"b64": "AA=="}]}, "an object with the keys b64 at instances[0]"),
        ({"instances": [1, {"x": 1}]}, "an object with the keys x at instances[1]"),
        ({"inputs": None}, "null at inputs"),
        ({"inputs": "x" * 1000}, f'"{"x" * 59}... at inputs'),
        (b'{"inputs": [1' + b"0" * 400 + b"]}", f"1{'0' * 59}... at inputs[0]"),
    ],
)
def test_a_value_that_is_not_a_tensor_is_described_with_its_position(body, received):
    assert error_of(body) == f"input x: expected float32. Received: {received}"


def test_the_expected_shape_is_described():
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        decode_predict(Document({"inputs": ["a"]}), {"serving_default": {"x": Input("x", tf.int64, (None, 2))}})
    assert caught.value.message == 'input x: expected int64 of shape (None, 2). Received: "a" at inputs[0]'


@pytest.mark.parametrize("dtype, value", [(tf.int32, 1.0), (tf.int64, 2**63), (tf.uint8, -1), (tf.int8, 300)])
def test_integers_are_checked(dtype, value):
    assert error_of({"inputs": [[0, value]]}, {"x": dtype}) == (
        f"input x: expected {dtype.name}. Received: {value} at inputs[0][1]"
    )


@pytest.mark.parametrize(
    "value, received",
    [
        ("1", "1"),
        ('{"b64": 1}', "an object with the keys b64"),
        ('{"b64": "AA==", "more": 1}', "an object with the keys b64, more"),
        ('{"b64": "A"}', "an object with the keys b64"),
        ('{"b64": "$$$$"}', "an object with the keys b64"),
        (r'"\ud800"', '"\ud800"'),
    ],
)
def test_strings_are_checked(value, received):
    assert error_of(f'{{"inputs": {{"s": [{value}]}}}}', STRING) == (
        f"input s: expected string. Received: {received} at inputs.s[0]"
    )


@pytest.mark.parametrize(
    "body, message",
    [
        ({"instances": [1]}, "Received: 1 at instances[0]"),
        ({"instances": [dict.fromkeys("isfd", 1), {"z": 1}]}, "Received: an object with the keys z at instances[1]"),
        ({"instances": [dict.fromkeys("isfdz", 1)]}, "Received: an object with the keys i, s, f, d, z at instances[0]"),
        ({"inputs": [1]}, "Received: a list of 1 item"),
        ({"inputs": {"i": 1, "d": 2}}, "Received: an object with the keys i, d"),
    ],
)
def test_wrong_names_of_several_inputs(body, message):
    (key,) = body
    subject = 'every item of "instances"' if key == "instances" else '"inputs"'
    keys = "i (int32), s (string), f (float32), d (float64)"
    assert error_of(body, MIXED) == f"expected {subject} to be an object with the keys {keys}. {message}"


def test_a_dtype_without_json_form_is_unimplemented():
    with pytest.raises(tf.errors.UnimplementedError, match="input x: JSON cannot represent float16 values: use gRPC"):
        decode({"inputs": [1]}, {"x": tf.float16})


@pytest.mark.parametrize("depth", [64, 65, 900, 100_000])
def test_a_tensor_has_at_most_64_dimensions(depth):
    body = b'{"inputs": ' + b"[" * depth + b"1" + b"]" * depth + b"}"
    if depth == 64:
        assert values(body, FLOAT).shape == (1,) * 64
    elif depth < 1000:
        assert error_of(body) == f"input x: expected float32. Received: {depth} nested lists at inputs, more than 64"
    else:
        assert error_of(body) == "expected a JSON object. Received: too many levels of lists and objects"


def test_booleans_are_not_numbers():
    assert values('{"instances": [1], "true": 0}', FLOAT).tolist() == [1]
    for value in ("true", "[0.5, false]", "[[1, 2], [3, true]]"):
        assert "expected float32. Received: " in error_of(f'{{"inputs": {value}}}')


LEAVES = [0, 1, -1, 1.5, 255, 256, 2**31, 2**63, 2**64 - 1, 2.0**64, True, False, None, "a", "é"]
LEAVES += [{"b64": "AA=="}, {"b64": "?"}, {"b64": 1}, {"x": 1}, {}, -0.0, 1e308, 1e-310, float("nan"), float("-inf")]


def random_value(draw, depth=3):
    """Mostly arrays of one leaf, sometimes irregular lists."""
    if depth and draw.random() < 0.4:
        return [random_value(draw, depth - 1) for _ in range(draw.randrange(4))]
    return nested(draw.choice(LEAVES), [draw.randrange(4) for _ in range(draw.randrange(4))])


def nested(leaf, shape):
    return [nested(leaf, shape[1:]) for _ in range(shape[0])] if shape else leaf


@pytest.mark.parametrize("dtype", [tf.float32, tf.int8, tf.uint8, tf.int64, tf.uint64, tf.bool, tf.string])
def test_every_random_value_is_decoded_or_has_a_described_error(dtype):
    draw, decoded = random.Random(0), 0
    for _ in range(500):
        value = random_value(draw)
        try:
            array = values({"inputs": {"x": value}}, {"x": dtype})
        except tf.errors.InvalidArgumentError as error:
            assert error.message.startswith(f"input x: expected {dtype.name}. Received: ")
            assert " at inputs" in error.message
        else:
            decoded += 1
            assert array.dtype == (object if dtype == tf.string else dtype.as_numpy_dtype)
            if dtype == tf.float32:
                with np.errstate(over="ignore"):
                    np.testing.assert_array_equal(array, np.array(value, np.float64).astype(array.dtype))
    assert decoded > 30


def test_outputs_in_any_layout():
    array = np.arange(6, dtype=np.float64).reshape(2, 3)
    assert json.loads(encode_predict({"y": array.T}, rows=True)) == {"predictions": array.T.tolist()}
    assert json.loads(encode_predict({"y": array[:, ::2]}, rows=True)) == {"predictions": array[:, ::2].tolist()}
    assert json.loads(encode_predict({"y": np.zeros((2, 0))}, rows=True)) == {"predictions": [[], []]}


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint32", "uint64"])
def test_the_limits_of_integer_types(dtype):
    ends = [int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)]
    assert json.loads(encode_predict({"y": np.array(ends, dtype)}, rows=True)) == {"predictions": ends}
    assert values({"instances": ends}, {"x": tf.as_dtype(dtype)}).tolist() == ends


def test_outputs_in_rows_and_in_columns():
    outputs = {
        "f": np.array([[1.0], [2.0]], np.float32),
        "i": np.array([[[1, 2]], [[7, 8]]], np.int32),
        "s": np.array([[b"foo"], [b"baz"]], object),
        "s_bytes": np.array([b"hello", b"\xff"], object),
    }
    b64 = [{"b64": "aGVsbG8="}, {"b64": "/w=="}]
    assert json.loads(encode_predict(outputs, rows=True)) == {
        "predictions": [
            {"f": [1.0], "i": [[1, 2]], "s": ["foo"], "s_bytes": b64[0]},
            {"f": [2.0], "i": [[7, 8]], "s": ["baz"], "s_bytes": b64[1]},
        ]
    }
    assert json.loads(encode_predict(outputs, rows=False)) == {
        "outputs": {"f": [[1.0], [2.0]], "i": [[[1, 2]], [[7, 8]]], "s": [["foo"], ["baz"]], "s_bytes": b64}
    }


def test_a_single_output_has_no_name():
    array = np.array([1, 2, 3], np.int64)
    assert json.loads(encode_predict({"y": array}, rows=True)) == {"predictions": [1, 2, 3]}
    assert json.loads(encode_predict({"y": array}, rows=False)) == {"outputs": [1, 2, 3]}
    assert json.loads(encode_predict({"y": np.array(b"text", object)}, rows=False)) == {"outputs": "text"}
    assert json.loads(encode_predict({"y": np.array(True)}, rows=False)) == {"outputs": True}


def test_floats_are_written_in_their_own_precision():
    written = [0.2, 9e6, 999999.0, 3e-05, 555557.5, 1e30]
    answer = encode_predict({"y": np.array(written, np.float32)}, rows=True)
    assert json.loads(answer) == {"predictions": written}
    assert b"999999.0" in answer  # whole numbers still show that they are floats
    numbers = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    back = json.loads(encode_predict({"y": numbers}, rows=True))["predictions"]
    np.testing.assert_array_equal(np.array(back, np.float32), numbers)
    assert json.loads(encode_predict({"y": np.array([0.1 + 0.2])}, rows=True)) == {"predictions": [0.1 + 0.2]}


def test_nan_and_infinities_are_bare_words():
    answer = encode_predict({"y": np.array([[np.nan, np.inf], [0.2, -np.inf]], np.float32)}, rows=True)
    assert answer == b'{"predictions":[[NaN,Infinity],[0.2,-Infinity]]}'
    answer = encode_predict({"y": np.array(np.nan, np.float32), "z": np.array([0.2], np.float32)}, rows=False)
    assert answer == b'{"outputs":{"y":NaN,"z":[0.2]}}'
    outputs = {"s": np.array([b"null", b"NaN"], object), "x": np.array([np.nan, 2]), "y": np.array([[1.0], [-np.inf]])}
    answer = encode_predict(outputs, rows=True)
    assert answer == b'{"predictions":[{"s":"null","x":NaN,"y":[1.0]},{"s":"NaN","x":2.0,"y":[-Infinity]}]}'


@pytest.mark.parametrize("dtype", [np.float32, np.int32, object])
def test_empty_batches(dtype):
    assert json.loads(encode_predict({"y": np.zeros((0, 2), dtype)}, rows=True)) == {"predictions": []}
    two = {"a": np.zeros((0, 2), dtype), "b": np.zeros((0, 3, 4), dtype)}
    assert json.loads(encode_predict(two, rows=True)) == {"predictions": []}


@pytest.mark.parametrize(
    "outputs, message",
    [
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"y": np.array([1j], np.complex64)}, "Failed to write JSON value for tensor type: complex64"),
        ({"y": np.array([1], np.float16)}, "Failed to write JSON value for tensor type: half"),
        ({"y": np.array(1.0)}, "Tensor name: y has no shape information"),
        ({"a": np.zeros((2, 3)), "b": np.zeros((1, 3))}, "name: b has inconsistent batch size: 1 expecting: 2"),
        ({"a": np.zeros((0, 2)), "b": np.zeros((1, 2))}, "name: b has inconsistent batch size: 1 expecting: 0"),
    ],
)
def test_invalid_outputs_are_rejected(outputs, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        encode_predict(outputs, rows=True)
