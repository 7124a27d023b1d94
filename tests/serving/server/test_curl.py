"""The curl command of a model: its example request, or one that is made up."""

import json
import shlex
import types

import pytest
import tensorflow as tf

from keras_dl.serving.server.curl import curl_example
from keras_dl.serving.server.engine import LoadedModel


@pytest.mark.parametrize(
    "signature_name, shape, dtype, expected",
    [
        ("serving_default", [None, None, 2], tf.float32, {"inputs": {"x": [[[0.0, 0.0]]]}}),
        ("serving_default", None, tf.bool, {"inputs": {"x": [False]}}),
        ("other", [None], tf.string, {"inputs": {"x": ["text"]}, "signature_name": "other"}),
        ("serving_default", [], tf.int64, {"inputs": {"x": 0}}),
        ("serving_default", [None, 28, 28], tf.float32, None),
    ],
)
def test_a_request_is_made_up(tmp_path, signature_name, shape, dtype, expected):
    module = tf.Module()
    module.function = tf.function(lambda x: {"y": tf.identity(x)}, input_signature=[tf.TensorSpec(shape, dtype, "x")])
    tf.saved_model.save(module, str(tmp_path), signatures={signature_name: module.function})
    program, *options, url = shlex.split(curl_example(LoadedModel("m", 1, tmp_path), "http://host:1"))
    assert program == "curl"
    if expected is None:
        assert (options, url) == ([], "http://host:1/v1/models/m/metadata")
    else:
        assert (options[0], json.loads(options[1])) == ("--data", expected)
        assert url == "http://host:1/v1/models/m:predict"


def test_the_request_of_the_manifest_is_taken_unless_it_is_long(store):
    hp2 = store.get("hp2")
    model = types.SimpleNamespace(
        name="hp2", input_dtypes=hp2.input_dtypes, signatures=hp2.signatures, manifest={"request": {"x": [1.5, 2.0]}}
    )
    *_, body, _ = shlex.split(curl_example(model, "http://host:1"))
    assert json.loads(body) == {"inputs": {"x": [1.5, 2.0]}}
    model.manifest = {"request": {"x": [0.25] * 1000}}
    *_, body, _ = shlex.split(curl_example(model, "http://host:1"))
    assert json.loads(body) == {"inputs": {"x": [0.0]}}


def test_a_name_that_is_no_url_is_encoded(tmp_path):
    module = tf.Module()
    module.function = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.function})
    *_, url = shlex.split(curl_example(LoadedModel("a b/ü?", 1, tmp_path), "http://host:1"))
    assert url == "http://host:1/v1/models/a%20b%2F%C3%BC%3F:predict"
