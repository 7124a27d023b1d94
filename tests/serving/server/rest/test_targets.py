"""Paths: the cases of TF Serving's http_rest_api_util_test.cc, and more for its regular expressions."""

import pytest
import tensorflow as tf

from keras_dl.serving.server.rest.targets import Target, read_target

RESERVED = "%21%23%24%25%26%27%28%29%2A%2B%2C%2F%3A%3B%3D%3F%40%5B%5D"
DECODED = "!#$%&'()*+,/:;=?@[]"


def error_of(method, path):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        read_target(method, path)
    return caught.value.message


@pytest.mark.parametrize(
    "path, target",
    [
        (f"modelname{RESERVED}", Target(f"modelname{DECODED}", None, None, "status")),
        ("modelname/versions/99", Target("modelname", 99, None, "status")),
        ("modelname/labels/latest", Target("modelname", None, "latest", "status")),
        (f"modelname/labels/latest{RESERVED}", Target("modelname", None, f"latest{DECODED}", "status")),
        ("modelname/labels/latest/metadata", Target("modelname", None, "latest", "metadata")),
        (
            f"modelname{RESERVED}/labels/latest{RESERVED}/metadata",
            Target(f"modelname{DECODED}", None, f"latest{DECODED}", "metadata"),
        ),
        ("modelname/METADATA", Target("modelname", None, None, "status")),
        ("metadata", Target("metadata", None, None, "status")),
        ("modelname?x=1", Target("modelname?x=1", None, None, "status")),
        ("m/versions/0009223372036854775807", Target("m", 2**63 - 1, None, "status")),
        ("%zz%2", Target("%zz%2", None, None, "status")),
    ],
)
def test_get(path, target):
    assert read_target("GET", f"/v1/models/{path}") == target


@pytest.mark.parametrize(
    "path, target",
    [
        (f"modelname{RESERVED}:predict", Target(f"modelname{DECODED}", None, None, "predict")),
        ("modelname/versions/99:classify", Target("modelname", 99, None, "classify")),
        ("modelname/labels/latest:regress", Target("modelname", None, "latest", "regress")),
        (
            f"modelname{RESERVED}/labels/latest{RESERVED}:predict",
            Target(f"modelname{DECODED}", None, f"latest{DECODED}", "predict"),
        ),
    ],
)
def test_post(path, target):
    assert read_target("POST", f"/v1/models/{path}") == target
    assert read_target("POST", f"/V1/MODELS/{path}") == target


@pytest.mark.parametrize(
    "method, path",
    [
        ("GET", "/v1/foo"),
        ("GET", "/v1/models/"),
        ("GET", "/v1/models/foo/"),
        ("GET", "/v1/models/foo:predict"),
        ("GET", "/v1/models/foo/version/50:predict"),
        ("GET", "/v1/models/foo/versions/-1"),
        ("GET", "/v1/models/foo/versions/٣"),
        ("GET", "/v1/models/foo/versions/1/labels/a"),
        ("GET", "/v1/models/foo/metadata/"),
        ("POST", "/v1/foo"),
        ("POST", "/v1/models"),
        ("POST", "/v1/models/:predict"),
        ("POST", "/v1/models/foo/version/50:predict"),
        ("POST", "/v1/models/foo/versions/string:predict"),
        ("POST", "/v1/models/foo/metadata"),
        ("POST", "/v1/models/foo/versions/50/labels/some_label:regress"),
        ("POST", "/v1/models/foo:Predict"),
        ("POST", "/v1/models/foo:predict?a=b"),
        ("POST", "/v1/models/foo:predict\n"),
        ("PUT", "/v1/models/foo:predict"),
        ("HEAD", "/v1/models/foo"),
    ],
)
def test_malformed(method, path):
    assert error_of(method, path) == f"Malformed request: {method} {path}"


@pytest.mark.parametrize("version", [2**63, 2**64 - 1, 2**64, "9" * 5000])
def test_versions_beyond_64_bits(version):
    for method, path in (
        ("GET", f"/v1/models/foo/versions/{version}"),
        ("POST", f"/v1/models/f/versions/{version}:predict"),
    ):
        assert error_of(method, path) == f"Failed to convert version: {version} to numeric."


def test_leading_zeros_of_a_version():
    assert read_target("GET", f"/v1/models/foo/versions/{'0' * 5000}123").version == 123
    assert read_target("GET", "/v1/models/foo/versions/000").version == 0


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/versions/1", "/v1/models/labels/a/metadata"])
def test_the_model_name_is_required(path):
    assert error_of("GET", path) == "Missing model name in request."
