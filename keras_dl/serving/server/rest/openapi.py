"""Describes the REST API in OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.1.html).

The description is generated from the signatures of the loaded models, so that a generated client or a test tool knows
the name, type and shape of every input.
"""

from importlib.metadata import version
from typing import Any
from urllib.parse import quote

import tensorflow as tf

from keras_dl.serving.server.engine import LoadedModel
from keras_dl.serving.server.rest.codec import PYTHON_TYPES
from keras_dl.serving.server.store import ModelStore

_BYTES = {
    "type": "object",
    "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
    "required": ["b64"],
    "additionalProperties": False,
}
_ERRORS = {
    "400": "the request is malformed or does not match the signature",
    "404": "there is no such model or version, or it is not loaded",
    "408": "the body did not arrive in time",
    "413": "the body is too large",
    "429": "too many requests; retry after the time in Retry-After",
    "499": "the client disconnected",
    "500": "internal error",
    "501": "the type has no JSON form",
    "503": "the queue is full or the server is shutting down; retry after the time in Retry-After",
    "504": "the model took too long",
}
_CHOICES = {
    "": [],
    "/versions/{version}": [("version", {"type": "integer", "minimum": 0, "maximum": 2**63 - 1})],
    "/labels/{label}": [("label", {"type": "string", "pattern": "^[^/:]+$"})],
}
_ANY_VALUES = {"type": "object", "additionalProperties": True}


def describe_api(store: ModelStore, monitoring_path: str) -> dict[str, Any]:
    """Returns the OpenAPI document of a server.

    Args:
        store: the models; the inputs of models that are not loaded are not described.
        monitoring_path: the path of the metrics for Prometheus.
    """
    paths = {
        "/healthz": _get("Whether the process responds", {"503"}),
        "/readyz": _get("Whether every model is available", {"503"}),
        monitoring_path: _get("Counters and histograms for Prometheus", set(), "text/plain"),
        "/openapi.json": _get("This document", set()),
        "/": _get("A web page", set(), "text/html"),
    }
    for name in store.names():
        try:
            model = store.get(name)
        except tf.errors.OpError:
            model = None
        for choice, parameters in _CHOICES.items():
            base = f"/v1/models/{quote(name, safe='')}{choice}"
            listed = [{"name": key, "in": "path", "required": True, "schema": schema} for key, schema in parameters]
            operations = {
                "": _get(f"The versions of {name} and their states"),
                "/metadata": _get(f"{name}'s signatures"),
            }
            for action, schema in _requests(model).items():
                operations[f":{action}"] = _post(f"Runs {name}", schema)
            paths |= {base + end: {"parameters": listed, **operation} for end, operation in operations.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "TensorFlow Serving's REST API, embedded in keras_dl", "version": version("keras_dl")},
        "paths": paths,
        "components": {
            "schemas": {
                "Error": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]},
                "Bytes": _BYTES,
            }
        },
    }


def _requests(model: LoadedModel | None) -> dict[str, dict]:
    """Returns the schemas of the requests that a model accepts, by method."""
    if model is None:
        return {}
    predict, examples = [], []
    for name, signature in sorted(model.signatures.items()):
        tensors = {key: _tensor(info) for key, info in sorted(signature.inputs.items())}
        if not tensors or None in tensors.values():
            continue
        predict += [_request(name, "inputs", _columns(tensors)), _request(name, "instances", _rows(tensors))]
        if tensors.keys() == {"inputs"} and signature.inputs["inputs"].dtype == tf.string.as_datatype_enum:
            examples.append(_request(name, "examples", {"type": "array", "minItems": 1, "items": _ANY_VALUES}))
            examples[-1]["properties"]["context"] = _ANY_VALUES
    schemas = {"predict": {"anyOf": predict}} if predict else {}
    return schemas | ({"classify": {"anyOf": examples}, "regress": {"anyOf": examples}} if examples else {})


def _request(signature_name: str, key: str, schema: dict) -> dict:
    named = signature_name != "serving_default"
    return {
        "type": "object",
        "properties": {"signature_name": {"const": signature_name}, key: schema},
        "required": ["signature_name", key] if named else [key],
        "additionalProperties": False,
    }


def _tensor(info) -> tuple[dict, list[int] | None] | None:
    """Returns the schema of a tensor's values and its shape (None if unknown), or None if it has no JSON form."""
    dtype = tf.as_dtype(info.dtype)
    if dtype not in PYTHON_TYPES:
        return None
    if dtype == tf.string:
        value = {"anyOf": [{"type": "string"}, {"$ref": "#/components/schemas/Bytes"}]}
    elif dtype == tf.bool:
        value = {"type": "boolean"}
    elif dtype.is_integer:
        value = {"type": "integer", "minimum": dtype.min, "maximum": dtype.max}
    else:
        value = {"type": "number"}
    shape = None if info.tensor_shape.unknown_rank else [dim.size for dim in info.tensor_shape.dim]
    return value, shape


def _columns(tensors: dict) -> dict:
    named = _object({key: _nested(*tensor) for key, tensor in tensors.items()}, more=True)
    return named if len(tensors) > 1 else {"anyOf": [named, *named["properties"].values()]}


def _rows(tensors: dict) -> dict:
    row = _object({key: _nested(value, shape and shape[1:]) for key, (value, shape) in tensors.items()}, more=False)
    items = row if len(tensors) > 1 else {"anyOf": [row, *row["properties"].values()]}
    return {"type": "array", "minItems": 1, "items": items}


def _object(properties: dict, more: bool) -> dict:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": more}


def _nested(value: dict, shape: list[int] | None) -> dict:
    if shape is None:
        return {"anyOf": [value, {"type": "array"}]}
    for size in reversed(shape):
        value = {"type": "array", "items": value} | ({"minItems": size, "maxItems": size} if size >= 0 else {})
    return value


def _get(summary: str, errors=frozenset({"400", "404", "500"}), media_type: str = "application/json") -> dict:
    return {"get": {"summary": summary, "responses": _responses(errors, media_type)}}


def _post(summary: str, schema: dict) -> dict:
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    return {"post": {"summary": summary, "requestBody": body, "responses": _responses(_ERRORS)}}


def _responses(errors, media_type: str = "application/json") -> dict:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {"200": {"description": "the answer", "content": {media_type: {}}}} | {
        code: {"description": _ERRORS[code], "content": error} for code in sorted(errors)
    }
