"""Decodes classify and regress requests, and encodes their answers.

Source: ``util/json_tensor.cc`` of https://github.com/tensorflow/serving. The key of the answer is "results" as in its
code; its documentation calls it "result".
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_dl.serving.server.errors import invalid
from keras_dl.serving.server.rest.codec import described, encode, is_object, json_numbers, listed, to_bytes

_KINDS = {"bytes_list": "strings", "float_list": "floats", "int64_list": "integers"}


def decode_examples(document: Mapping[str, Any]) -> list[bytes]:
    """Returns the serialized examples of a request, each preceded by the request's "context".

    Args:
        document: the request: "examples", a list of objects of features, and optionally "context", one such object.

    Raises:
        tf.errors.InvalidArgumentError: if there are no examples, or a feature is neither bytes, floats nor integers.
    """
    context = _example(document["context"], "context") if "context" in document else b""
    if "examples" not in document:
        raise invalid(f'expected the key "examples". Received: the keys {listed(document)}')
    examples = document["examples"]
    if not isinstance(examples, list) or not examples:
        raise invalid(f'expected "examples" to be a list with at least one item. Received: {described(examples)}')
    return [context + _example(example, f"examples[{position}]") for position, example in enumerate(examples)]


def encode_classifications(results: list[list[tuple[bytes, np.float32]]]) -> bytes:
    """Encodes the answer to ``:classify``: a list of ``[label, score]`` pairs for each example."""
    answer = [
        [(label.decode(errors="replace"), json_numbers(score)) for label, score in classes] for classes in results
    ]
    return encode("results", answer)


def encode_regressions(values: np.ndarray) -> bytes:
    """Encodes the answer to ``:regress``: a value for each example."""
    return encode("results", json_numbers(np.ascontiguousarray(values)))


def _example(value: Any, where: str) -> bytes:
    if not isinstance(value, dict):
        raise invalid(f"expected {where} to be an object of features. Received: {described(value)}")
    example = tf.train.Example()
    for name, content in value.items():
        feature = tf.train.Feature()
        for item in content if isinstance(content, list) else [content]:
            try:
                _add(item, feature)
            except (TypeError, ValueError) as error:
                raise invalid(f"{where}.{name}: expected {error}. Received: {described(item)}") from None
        example.features.feature[name.encode(errors="replace").decode()].CopyFrom(feature)
    return example.SerializeToString()


def _add(value: Any, feature: tf.train.Feature) -> None:
    """Adds a value to a feature; the first value determines its kind."""
    if value is None or isinstance(value, list) or is_object(value):
        raise TypeError("strings, floats or integers")
    kind = "float_list" if isinstance(value, float) else "int64_list" if isinstance(value, int) else "bytes_list"
    before = feature.WhichOneof("kind")
    if before not in (None, kind):
        raise TypeError(f"only {_KINDS[before]}, like the first value")
    if kind == "bytes_list":
        try:
            value = to_bytes(value)
        except ValueError:
            raise ValueError("valid Unicode or base64") from None
    elif kind == "int64_list" and not -(2**63) <= value < 2**63:
        raise ValueError("integers of 64 bits")
    getattr(feature, kind).value.append(int(value) if isinstance(value, bool) else value)
