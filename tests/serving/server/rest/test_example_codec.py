"""Examples in JSON: the classify and regress cases of TF Serving's util/json_tensor_test.cc."""

import json

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from keras_dl.serving.server.rest.codec import read_document
from keras_dl.serving.server.rest.example_codec import decode_examples, encode_classifications, encode_regressions


def decode(body):
    members = read_document(body.encode() if isinstance(body, str) else json.dumps(body).encode()).members
    return [tf.train.Example.FromString(example).features.feature for example in decode_examples(members)]


def feature(text):
    return text_format.Parse(text, tf.train.Feature())


def error_of(body):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        decode(body)
    return caught.value.message


def test_examples():
    examples = decode(
        {"examples": [{"names": ["foo", "bar"], "ratings": [8.0, 9.0], "age": 20}, {"names": ["baz"], "ratings": 6.0}]}
    )
    assert [dict(example) for example in examples] == [
        {
            "names": feature('bytes_list { value: ["foo", "bar"] }'),
            "ratings": feature("float_list { value: [8, 9] }"),
            "age": feature("int64_list { value: 20 }"),
        },
        {"names": feature('bytes_list { value: "baz" }'), "ratings": feature("float_list { value: 6 }")},
    ]


def test_context_kinds_and_base64():
    first, second, third = decode(
        """{
        "signature_name": "custom", "context": {"query": "pizza", "location": ["sfo"]},
        "examples": [
            {"names": ["foo", "bar"], "ratings": [8.0, 9.0, NaN, Infinity], "age": 20},
            {"names": ["baz", {"b64": "aGVsbG8="}], "ratings": 6.0, "intboolmix": [1, true, false]},
            {"names": "bar", "ratings": -Infinity, "query": "soup", "empty": []}
        ]}"""
    )
    assert first["query"] == feature('bytes_list { value: "pizza" }')
    assert first["location"] == feature('bytes_list { value: "sfo" }')
    np.testing.assert_array_equal(first["ratings"].float_list.value, [8, 9, np.nan, np.inf])
    assert second["names"] == feature('bytes_list { value: ["baz", "hello"] }')
    assert second["intboolmix"] == feature("int64_list { value: [1, 1, 0] }")
    assert third["ratings"] == feature("float_list { value: -inf }")
    assert third["query"] == feature('bytes_list { value: "soup" }')  # an example overrides the context
    assert third["empty"] == feature("")


def test_the_limits_of_number_types():
    (example,) = decode(
        '{"examples": [{"i": [-9223372036854775808, 9223372036854775807], "f": [1e300, -1e300, 1e-300]}]}'
    )
    assert list(example["i"].int64_list.value) == [-(2**63), 2**63 - 1]
    assert list(example["f"].float_list.value) == [np.inf, -np.inf, 0]


@pytest.mark.parametrize(
    "body, message",
    [
        ("", "Received: an empty body"),
        ({"context": [{"a": 1}]}, "expected context to be an object of features. Received: a list of 1 item"),
        ({"signature_name": "hello"}, 'expected the key "examples". Received: the keys signature_name'),
        ({"examples": {"names": [10, 20]}}, 'expected "examples" to be a list with at least one item. Received: an '),
        ({"examples": []}, 'expected "examples" to be a list with at least one item. Received: an empty list'),
        ({"examples": [10]}, "expected examples[0] to be an object of features. Received: 10"),
        ({"examples": [{}, {"n": [10, None]}]}, "examples[1].n: expected strings, floats or integers. Received: null"),
        ({"examples": [{"n": [[10, 20]]}]}, "examples[0].n: expected strings, floats or integers. Received: a list of"),
        ({"examples": [{"n": {"a": 1}}]}, "examples[0].n: expected strings, floats or integers. Received: an object"),
        ({"examples": [{"n": {"b64": 1}}]}, "examples[0].n: expected strings, floats or integers. Received: an object"),
        ({"examples": [{"n": {"b64": "$"}}]}, "examples[0].n: expected valid Unicode or base64. Received: an object"),
        (r'{"examples": [{"n": "\ud800"}]}', "examples[0].n: expected valid Unicode or base64. Received: "),
        (
            {"examples": [{"n": [10, "a"]}]},
            'examples[0].n: expected only integers, like the first value. Received: "a"',
        ),
        ({"examples": [{"n": ["a", 10]}]}, "examples[0].n: expected only strings, like the first value. Received: 10"),
        ({"examples": [{"n": [1.0, 10]}]}, "examples[0].n: expected only floats, like the first value. Received: 10"),
        (
            '{"examples": [{"n": 18446744073709551603}]}',
            "examples[0].n: expected integers of 64 bits. Received: 184467",
        ),
        ('{"examples": [{"n": [-18446744073709551603, 1], "f": NaN}]}', "expected integers of 64 bits. Received: -18"),
    ],
)
def test_errors_contain_the_position_and_the_value(body, message):
    assert message in error_of(body)


def test_classifications():
    results = [[(b"a", np.float32(0.2)), (b"b\xff", np.float32(3))], [(b"", np.float32(1e30))]]
    assert encode_classifications(results) == b'{"results":[[["a",0.2],["b\xef\xbf\xbd",3.0]],[["",1e+30]]]}'
    results = [[(b"a", np.float32("nan")), (b"b", np.float32(0.2))]]
    assert encode_classifications(results) == b'{"results":[[["a",NaN],["b",0.2]]]}'


def test_regressions():
    assert encode_regressions(np.float32([0.2, 3])) == b'{"results":[0.2,3.0]}'
    assert encode_regressions(np.float32([np.inf, 0.2])) == b'{"results":[Infinity,0.2]}'
