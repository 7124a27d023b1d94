"""The OpenAPI description: complete, valid, and consistent with the signatures."""

import re

import pytest
import requests

from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.rest.openapi import describe_api
from keras_dl.serving.server.store import ModelStore


@pytest.fixture(scope="module")
def document(url):
    return requests.get(f"{url}/openapi.json", timeout=30).json()


def schema(document, path):
    return document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["anyOf"]


def test_all_routes_are_described(document):
    assert document["openapi"] == "3.1.0"
    for path in ("/healthz", "/readyz", "/", "/openapi.json", "/monitoring/prometheus/metrics"):
        assert "get" in document["paths"][path]
    for choice in ("", "/versions/{version}", "/labels/{label}"):
        base = f"/v1/models/half_plus_two{choice}"
        assert "get" in document["paths"][base] and "get" in document["paths"][f"{base}/metadata"]
        for action in ("predict", "classify", "regress"):
            assert "post" in document["paths"][f"{base}:{action}"]
    assert "/v1/models/sequences:classify" not in document["paths"]


def test_parameters_of_paths_are_declared_and_references_resolve(document):
    for path, operations in document["paths"].items():
        declared = {parameter["name"] for parameter in operations.get("parameters", [])}
        assert declared == set(re.findall(r"\{(\w+)\}", path))
    for reference in set(re.findall(r"'\$ref': '#/components/schemas/(\w+)'", str(document))):
        assert reference in document["components"]["schemas"]


def test_inputs_match_the_signatures(document):
    columns, rows = schema(document, "/v1/models/sequences:predict")
    features = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    features = {"type": "array", "items": {"type": "array", "items": features}}
    inputs = columns["properties"]["inputs"]
    assert inputs["properties"]["features"] == features and inputs["required"] == ["features", "length"]
    row = rows["properties"]["instances"]["items"]
    assert row["properties"]["features"] == features["items"]
    assert row["properties"]["length"] == {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}


def test_other_signatures_require_their_name(document):
    named = {form["properties"]["signature_name"]["const"]: form for form in schema(document, "/v1/models/hp2:predict")}
    assert named.keys() == {"serving_default", "product", "spin", "half"}
    assert named["product"]["required"] == ["signature_name", "instances"]
    assert named["serving_default"]["required"] == ["instances"]
    examples = schema(document, "/v1/models/half_plus_two:classify")
    assert {form["properties"]["signature_name"]["const"] for form in examples} == {
        "classify_x_to_y",
        "regress_x_to_y",
        "regress_x_to_y2",
    }


def test_dtypes_without_json_form_are_omitted(document):
    echoed = {form["properties"]["signature_name"]["const"] for form in schema(document, "/v1/models/echo:predict")}
    assert {"float32", "int8", "uint64", "string", "bool"} <= echoed
    assert not {"complex64", "half", "uint16"} & echoed


def test_a_model_that_is_not_loaded_and_has_special_characters_in_its_name(tmp_path):
    store = ModelStore([ModelConfig("a/b c", tmp_path / "absent")])
    store.poll()
    paths = describe_api(store, "/metrics")["paths"]
    assert "/v1/models/a%2Fb%20c/versions/{version}/metadata" in paths and "/metrics" in paths
    assert not [path for path in paths if path.endswith(":predict")]
