"""Decodes classify and regress requests, and encodes their answers.

Source: ``util/json_tensor.cc`` of https://github.com/tensorflow/serving. The key of the answer is "results" as in its
code; its documentation calls it "result".
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_dl.serving.server.errors import invalid
from keras_dl.serving.server.rest.codec import encode, json_numbers
from keras_dl.serving.server.rest.parity_errors import from_base64, is_object, json_type, shown

_KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def decode_examples(document: Mapping[str, Any]) -> list[bytes]:
    """Returns the serialized examples of a request, each preceded by the request's "context".

    Args:
        document: the request: "examples", a list of objects of features, and optionally "context", one such object.

    Raises:
        tf.errors.InvalidArgumentError: if there are no examples, or a feature is neither bytes, floats nor integers.
    """
    context = _example(document["context"]) if "context" in document else b""
    if "examples" not in document:
        raise invalid(
            f"JSON Value: {shown(document)} When method is classify, key 'examples' is expected and was not found"
        )
    examples = document["examples"]
    if not isinstance(examples, list):
        raise invalid(f"JSON Value: {shown(document)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid(f"JSON Value: {shown(document)} 'examples' value is an empty array")
    return [context + _example(example) for example in examples]


def encode_classifications(results: list[list[tuple[bytes, np.float32]]]) -> bytes:
    """Encodes the answer to ``:classify``: a list of ``[label, score]`` pairs for each example."""
    answer = [
        [(label.decode(errors="replace"), json_numbers(score)) for label, score in classes] for classes in results
    ]
    return encode("results", answer)


def encode_regressions(values: np.ndarray) -> bytes:
    """Encodes the answer to ``:regress``: a value for each example."""
    return encode("results", json_numbers(np.ascontiguousarray(values)))


def _example(value: Any) -> bytes:
    if not isinstance(value, dict):
        raise invalid(f"Example must be JSON object but got JSON {json_type(value)}")
    example = tf.train.Example()
    for name, content in value.items():
        feature = tf.train.Feature()
        for item in content if isinstance(content, list) else [content]:
            _add(item, name, feature)
        example.features.feature[name.encode(errors="replace").decode()].CopyFrom(feature)
    return example.SerializeToString()


def _add(value: Any, name: str, feature: tf.train.Feature) -> None:
    """Adds a value to a feature; the first value determines its kind."""
    if value is None or isinstance(value, list) or is_object(value):
        raise invalid(f"Feature: {name} has element with unexpected JSON type: {json_type(value)}")
    kind = "float_list" if isinstance(value, float) else "int64_list" if isinstance(value, int) else "bytes_list"
    before = feature.WhichOneof("kind")
    if before not in (None, kind):
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {_KINDS[before]}")
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    elif isinstance(value, dict):
        value = from_base64(value)
    elif value >= 2**63 and kind == "int64_list":
        raise invalid(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
    getattr(feature, kind).value.append(int(value) if isinstance(value, bool) else value)
