"""Tensors in JSON: the predict cases of TF Serving's util/json_tensor_test.cc, and more."""

import json
import math

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.serving.server.rest.codec import decode_predict, encode_predict, read_document

INT = {"default": tf.int32}
FLOAT = {"x": tf.float32}
STRING = {"s": tf.string}
MIXED = {"i": tf.int32, "s": tf.string, "f": tf.float32, "d": tf.float64}


def decode(body, dtypes):
    body = body if isinstance(body, bytes | str) else json.dumps(body)
    document = read_document(body if isinstance(body, bytes) else body.encode())
    return decode_predict(document, {"serving_default": dtypes, "other": INT})


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


def test_bytes_that_are_not_utf_8_are_kept():
    assert values(b'{"instances": ["\xff\xc3\xa9", "a"]}', STRING).tolist() == [b"\xff\xc3\xa9", b"a"]
    assert "The surrogate pair in string is invalid." in error_of(rb'{"inputs": ["\ud800"]}', STRING)


def test_text_after_the_value_and_a_byte_order_mark_are_ignored():
    assert values(b'\xef\xbb\xbf {"instances": [1]} X', FLOAT).tolist() == [1.0]


def test_the_signature_is_selected_by_name():
    assert decode({"signature_name": "other", "instances": [1]}, FLOAT).signature_name == "other"
    assert decode({"signature_name": "", "instances": [1]}, FLOAT).signature_name == "serving_default"
    assert 'signature name: "nope" not found in signature def' in error_of({"signature_name": "nope", "instances": [1]})
    assert "'signature_name' key must be a string value." in error_of({"signature_name": 100})
    assert error_of({"instances": [1]}, {}) == "Failed to get input map for signature: serving_default"


@pytest.mark.parametrize(
    "body, message",
    [
        (b"", "JSON Parse error: The document is empty"),
        (b" \n", "JSON Parse error: The document is empty"),
        (b"instances = [1, 2]", "JSON Parse error: Invalid value"),
        (b'{"instances": [1,', "JSON Parse error: Invalid value"),
        (b'{"instances": ["a\nb"]}', "JSON Parse error: Invalid encoding in string."),
        ({"instances": [[1, 2], ["a", "b"]]}, 'JSON Value: "a" Type: String is not of expected type: float'),
        ({"signature_name": 5, "instances": [[1, 2], [3, 4], [5, 6, 7]]}, "must be a string value"),
        (b'{"instances": [1' + b"0" * 400 + b"]}", "Number too big to be stored in double."),
        (b'{"instances": [1' + b"0" * 5000 + b"]}", "Number too big to be stored in double."),
        ([1, 2], "JSON Value: [1, 2] Is not object"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instances": [1], "inputs": [1]}, "Not formatted correctly"),
        ({"instances": 5}, "Expecting 'instances' to be an list/array"),
        ({"instances": []}, "No values in 'instances' array"),
        ({"instances": [[1, 2], [3, 4], [5, 6, 7]]}, "Expecting tensor size: 2 but got: 3"),
        ({"instances": [[1, 2], [3, 4], [[5, 6]]]}, "Expecting shape [2] but got: [1,2]"),
        ({"instances": [1, [1]]}, "Expecting shape [] but got: [1]"),
        ({"instances": [[[1], [2, 3]]]}, "Encountered list at unexpected size: 2 at level: 1 expected size: 1"),
        ({"instances": [[1, [2]]]}, "Encountered list at unexpected level: 1 expected < 1"),
        ({"instances": [[[1], 2]]}, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ({"instances": [None]}, "JSON Value: null Type: Null is not of expected type: float"),
        ({"instances": [[1, True]]}, "JSON Value: true Type: True is not of expected type: float"),
        ({"instances": ["x"]}, 'JSON Value: "x" Type: String is not of expected type: float'),
        ({"instances": [{"b64": "AA=="}]}, "Type: Object is not of expected type: float"),
        ({"instances": [{"z": 1}]}, "JSON object: does not have named input: z"),
        ({"instances": [{"x": 1}, [1, 20]]}, "Expecting object but got list at item 1 of input list"),
        ({"instances": [[1, 20], {"x": 1}]}, "Expecting value/list but got object at item 1 of input list"),
        ({"instances": [{"x": 1}, {}]}, "keys must be equal to: x"),
        ({"inputs": {"y": 1}}, "Missing named input: x in 'inputs' object."),
    ],
)
def test_errors_have_tf_servings_messages(body, message):
    assert message in error_of(body)


def test_an_error_in_a_row_contains_its_position():
    assert error_of({"instances": [{"x": 1}, {"x": "a"}]}) == (
        "Failed to process element: 1 key: x of 'instances' list. Error: INVALID_ARGUMENT: "
        'JSON Value: "a" Type: String is not of expected type: float'
    )
    assert error_of({"instances": [["a", "b"], ["c", {"b64": "?"}]]}, STRING) == (
        "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Unable to base64 decode"
    )


@pytest.mark.parametrize("dtype, value", [(tf.int32, 1.0), (tf.int64, 2**63), (tf.uint8, -1), (tf.int8, 300)])
def test_integers_are_checked(dtype, value):
    for body in ({"instances": [value]}, {"inputs": [[0, value]]}):
        assert f"JSON Value: {value} Type: Number is not of expected type: {dtype.name}" in error_of(body, {"x": dtype})


@pytest.mark.parametrize(
    "value, message",
    [
        (1, "is not of expected type: string"),
        ({"b64": 1}, "not formatted correctly for base64 data"),
        ({"b64": "AA==", "more": 1}, "not formatted correctly for base64 data"),
        ({"b64": "A"}, "Unable to base64 decode"),
        ({"b64": "$$$$"}, "Unable to base64 decode"),
    ],
)
def test_strings_are_checked(value, message):
    assert message in error_of({"inputs": {"s": [value]}}, STRING)


def test_a_plain_list_cannot_feed_several_inputs():
    assert "instances is a plain list, but expecting list of objects" in error_of({"instances": [1]}, MIXED)
    assert "inputs is a plain value/list, but expecting an object" in error_of({"inputs": [1]}, MIXED)


def test_a_dtype_without_json_form_is_unimplemented():
    with pytest.raises(tf.errors.UnimplementedError, match="Conversion of JSON Value: 1 to type: half"):
        decode({"inputs": [1]}, {"x": tf.float16})


@pytest.mark.parametrize("depth", [64, 65, 900, 2000])
def test_a_tensor_has_at_most_64_dimensions(depth):
    for key in ("instances", "inputs"):
        body = b'{"%s": ' % key.encode() + b"[" * depth + b"1" + b"]" * depth + b"}"
        if depth == 64:
            assert values(body, FLOAT).shape == (1,) * 64
        else:
            assert "Expecting at most 6" in error_of(body)


def test_deep_nesting_does_not_recurse():
    brackets = b"[" * 50_000 + b"]" * 50_000
    document = read_document(b'{"instances": [1], "nested": ' + brackets + b"}", seconds=math.inf)
    assert decode_predict(document, {"serving_default": INT}).inputs["default"].tolist() == [1]
    with pytest.raises(tf.errors.InvalidArgumentError, match="key must be a string value"):
        read_document(b'{"signature_name": ' + brackets[45_000:55_000] + b"}", seconds=math.inf)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Nested deeper than 1025 levels"):
        read_document(b'{"nested": ' + brackets + b"}", most_levels=1025)


def test_booleans_are_not_numbers():
    assert values('{"instances": [1], "true": 0}', FLOAT).tolist() == [1]
    for value in ("true", "[0.5, false]", "[[1, 2], [3, true]]"):
        assert "is not of expected type: float" in error_of(f'{{"inputs": {value}}}')


def test_messages_contain_only_the_beginning_of_a_large_body():
    assert len(error_of({"signature_name": 1, "instances": list(range(100_000))})) < 400


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
