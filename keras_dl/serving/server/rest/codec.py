"""Converts between arrays and TensorFlow Serving's JSON form of tensors.

Source: ``util/json_tensor.cc`` of https://github.com/tensorflow/serving and the API page
https://www.tensorflow.org/tfx/serving/api_rest. All errors are ``tf.errors`` with TF Serving's codes, like the errors
of a running model, so that both are mapped to HTTP statuses in the same way. The messages are our own: each names the
expected dtype and shape, what was received, and where.

Deliberate differences: text after the JSON value and bytes that are not UTF-8 are rejected; an integer outside the
range of the input's dtype is rejected, whereas TF Serving wraps 8-bit and 16-bit types; a tensor has at most 64
dimensions, NumPy's limit.

Values are checked list by list, not one by one; only for an error, `_first_invalid` visits them one by one.
"""

import base64
import json
import math
from array import array as packed
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import orjson
import tensorflow as tf

from keras_dl.serving.json_bytes import to_base64
from keras_dl.serving.server.errors import dtype_name, invalid
from keras_dl.serving.server.inputs import Input

_INTEGERS = (tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint32, tf.uint64)
PYTHON_TYPES = {tf.float32: {int, float}, tf.float64: {int, float}, tf.bool: {bool}, tf.string: {str, dict}}
PYTHON_TYPES |= dict.fromkeys(_INTEGERS, {int})
_MOST_DIMENSIONS = 64  # NumPy's limit
_SHOWN_CHARACTERS = 60
_WORDS = np.array([b"NaN", b"Infinity", b"-Infinity"], object)


@dataclass(frozen=True)
class Document:
    """The JSON object in a request.

    Attributes:
        members: its values by name.
        signature_name: name of the signature, or "" if the request does not contain one.
        may_have_booleans: False if the text contains neither "true" nor "false", so that no check is needed.
    """

    members: dict[str, Any]
    signature_name: str = ""
    may_have_booleans: bool = True


@dataclass(frozen=True)
class PredictRequest:
    """A decoded predict request.

    Attributes:
        signature_name: the signature to run.
        inputs: one array per input of the signature, with the signature's dtype and the request's shape (strings as
            object arrays of bytes).
        rows: True if the request has "instances", so that the answer must have "predictions".
    """

    signature_name: str
    inputs: dict[str, np.ndarray]
    rows: bool


@dataclass(frozen=True)
class _Column:
    """The value of an input, and its place in the request: `where`, indices, and `key` after the first index."""

    value: Any
    where: str
    key: str = ""


def read_document(body: bytes) -> Document:
    """Parses the JSON object in a request's body.

    Args:
        body: JSON in UTF-8; bare ``NaN``, ``Infinity`` and ``-Infinity`` are numbers.

    Raises:
        tf.errors.InvalidArgumentError: if the body is not a JSON object, or ``signature_name`` is not a string.
    """
    members = _parse(body)
    if not isinstance(members, dict):
        raise invalid(f'expected a JSON object such as {{"inputs": ...}}. Received: {described(members)}')
    name = members.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(f'expected "signature_name" to be a string. Received: {described(name)}')
    return Document(members, name, b"true" in body or b"false" in body)


def decode_predict(document: Document, signatures: Mapping[str, Mapping[str, Input]]) -> PredictRequest:
    """Decodes the tensors of ``:predict``, in row format ("instances") or column format ("inputs").

    Args:
        document: the request.
        signatures: the inputs of each signature. Dtypes come from the signature and shapes from the data.

    Raises:
        tf.errors.InvalidArgumentError: if the request does not match the signature; the message contains the position.
        tf.errors.UnimplementedError: if the dtype of an input has no JSON form (complex, half).
    """
    name, members = document.signature_name or "serving_default", document.members
    if name not in signatures:
        raise invalid(f"expected a signature of the model: {listed(signatures)}. Received: {described(name)}")
    inputs = signatures[name]
    if not inputs:
        raise invalid(f"signature {name} has no inputs")
    if ("instances" in members) == ("inputs" in members):
        received = "both" if "inputs" in members else f"the keys {listed(members)}"
        raise invalid(f'expected either "instances" or "inputs". Received: {received}')
    if "inputs" in members:
        columns = _columns(members["inputs"], inputs)
    else:
        columns = _columns_of_rows(members["instances"], inputs)
    arrays = {key: _array(column, inputs[key], document.may_have_booleans) for key, column in columns.items()}
    return PredictRequest(name, arrays, rows="instances" in members)


def encode_predict(outputs: Mapping[str, np.ndarray], rows: bool) -> bytes:
    """Encodes a model's outputs as the answer to ``:predict``.

    A single output is written without its name, several as objects; string outputs whose names end in ``_bytes`` as
    ``{"b64": ...}``; floats in the shortest form that parses to the same number in their precision.

    Args:
        outputs: arrays of any shape in column format, with equal first dimensions in row format.
        rows: True for ``{"predictions": ...}``, False for ``{"outputs": ...}``.

    Raises:
        tf.errors.InvalidArgumentError: if there are no outputs or a dtype has no JSON form; in row format also for
            scalars and for different first dimensions.
    """
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    if rows:
        _check_first_dimensions(outputs)
    values = {name: _json_form(name, array) for name, array in outputs.items()}
    if len(values) == 1:
        (answer,) = map(json_numbers, values.values())
    elif rows:
        columns = [value if _is_finite(value) else map(json_numbers, value) for value in values.values()]
        answer = [dict(zip(values, row, strict=True)) for row in zip(*columns, strict=True)]
    else:
        answer = {name: json_numbers(value) for name, value in values.items()}
    return encode("predictions" if rows else "outputs", answer)


def encode(key: str, answer: Any) -> bytes:
    """Encodes ``{key: answer}`` as JSON.

    Args:
        key: name of the answer.
        answer: Python values and results of `json_numbers`.
    """
    return orjson.dumps({key: answer}, option=orjson.OPT_SERIALIZE_NUMPY)


def json_numbers(values: Any) -> Any:
    """Prepares a NumPy array or number for `encode`, with NaN and infinities as bare words; returns others as is."""
    if _is_finite(values):
        return values
    odd = np.extract(~np.isfinite(values), values)
    # orjson writes null exactly for these.
    text = orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)
    if np.isnan(odd).all():
        return orjson.Fragment(text.replace(b"null", b"NaN"))
    parts = [b""] * (2 * len(odd) + 1)
    parts[::2] = text.split(b"null")
    parts[1::2] = _WORDS[np.where(np.isnan(odd), 0, np.where(odd > 0, 1, 2))].tolist()
    return orjson.Fragment(b"".join(parts))


def described(value: Any) -> str:
    """Describes a JSON value for a message, briefly: it may be megabytes long."""
    if isinstance(value, list):
        return f"a list of {len(value)} item{'s' * (len(value) != 1)}" if value else "an empty list"
    if isinstance(value, dict):
        return f"an object with the keys {listed(value)}" if value else "an empty object"
    return _cut(json.dumps(value, ensure_ascii=False))


def listed(names: Iterable[str]) -> str:
    """Lists the first names for a message."""
    return _cut(", ".join(names)) or "none"


def is_object(value: Any) -> bool:
    """Returns whether a JSON value is an object of named values; ``{"b64": "..."}`` is a string."""
    return isinstance(value, dict) and not (value.keys() == {"b64"} and isinstance(value["b64"], str))


def to_bytes(value: str | dict) -> bytes:
    """Decodes text or ``{"b64": "..."}``; as in TF Serving, whitespace is ignored and padding is optional.

    Raises:
        ValueError: if the base64 is invalid or the text contains half a surrogate pair.
    """
    if isinstance(value, str):
        return value.encode()
    digits = "".join(value["b64"].split())
    return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:  # NaN, infinities, a byte order mark, or invalid
        pass
    try:
        return json.loads(body.decode("utf-8-sig"), parse_float=_finite)
    except RecursionError:
        raise invalid("expected a JSON object. Received: too many levels of lists and objects") from None
    except UnicodeDecodeError as error:
        raise invalid(f'expected UTF-8; other bytes are sent as {{"b64": ...}}. Received: {error}') from None
    except ValueError as error:
        received = error if body.strip() else "an empty body"
        raise invalid(f"expected a JSON object. Received: {received}") from None


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError(f"{_cut(text)}, which is too large for a double")
    return number


def _columns_of_rows(rows: Any, inputs: Mapping[str, Input]) -> dict[str, _Column]:
    if not isinstance(rows, list) or not rows:
        raise invalid(f'expected "instances" to be a list with at least one item. Received: {described(rows)}')
    if len(inputs) == 1 and not is_object(rows[0]):
        return {name: _Column(rows, "instances") for name in inputs}
    for position, row in enumerate(rows):
        if not is_object(row) or row.keys() != inputs.keys():
            expected = f'expected every item of "instances" to be an object with the keys {_keys(inputs)}'
            raise invalid(f"{expected}. Received: {described(row)} at instances[{position}]")
    return {name: _Column([row[name] for row in rows], "instances", f".{name}") for name in inputs}


def _columns(value: Any, inputs: Mapping[str, Input]) -> dict[str, _Column]:
    if len(inputs) == 1 and not is_object(value):
        return {name: _Column(value, "inputs") for name in inputs}
    if not is_object(value) or not inputs.keys() <= value.keys():
        expected = f'expected "inputs" to be an object with the keys {_keys(inputs)}'
        raise invalid(f"{expected}. Received: {described(value)}")
    return {name: _Column(value[name], f"inputs.{name}") for name in inputs}


def _keys(inputs: Mapping[str, Input]) -> str:
    return ", ".join(f"{name} ({expected})" for name, expected in inputs.items())


def _array(column: _Column, expected: Input, booleans: bool) -> np.ndarray:
    """Converts the JSON value of an input to a tensor."""
    dtype, shape, leaves = expected.dtype, [], [column.value]
    if dtype not in PYTHON_TYPES:
        problem = f"input {expected.name}: JSON cannot represent {dtype.name} values: use gRPC"
        raise tf.errors.UnimplementedError(None, None, problem)
    while leaves and type(leaves[0]) is list:
        sizes = set(map(len, leaves)) if set(map(type, leaves)) == {list} else ()
        if len(sizes) != 1 or len(shape) == _MOST_DIMENSIONS:
            raise _error(column, expected)
        shape += sizes
        leaves = list(chain.from_iterable(leaves))
    try:
        return _vector(leaves, dtype, booleans).reshape(shape)
    except (TypeError, ValueError, OverflowError):
        raise _error(column, expected) from None


def _vector(leaves: list, dtype: tf.DType, booleans: bool) -> np.ndarray:
    if dtype in (tf.float32, tf.float64):
        return _floats(leaves, dtype, booleans)
    return _strings(leaves) if dtype == tf.string else _exact(leaves, dtype)


def _floats(leaves: list, dtype: tf.DType, booleans: bool) -> np.ndarray:
    if booleans and bool in set(map(type, leaves)):
        raise TypeError
    numbers = np.array(packed("d", leaves))  # rejects everything except numbers and booleans, which become 0 and 1
    with np.errstate(over="ignore"):  # values too large for float32 become infinite, as in TF Serving
        return numbers.astype(dtype.as_numpy_dtype, copy=False)


def _strings(leaves: list) -> np.ndarray:
    if any(type(leaf) is not str and (type(leaf) is not dict or is_object(leaf)) for leaf in leaves):
        raise TypeError
    strings = np.empty(len(leaves), object)
    strings[:] = list(map(to_bytes, leaves))
    return strings


def _exact(leaves: list, dtype: tf.DType) -> np.ndarray:
    """Converts integers or booleans."""
    if not set(map(type, leaves)) <= PYTHON_TYPES[dtype]:
        raise TypeError
    if dtype.is_integer and leaves and not dtype.min <= min(leaves) <= max(leaves) <= dtype.max:
        raise OverflowError
    return np.array(leaves, dtype.as_numpy_dtype)


def _error(column: _Column, expected: Input) -> tf.errors.InvalidArgumentError:
    """Returns the error for a value that is not a tensor of the dtype, with the position of its first invalid part."""
    shape, inner = [], column.value
    while isinstance(inner, list):
        shape.append(len(inner))
        inner = inner[0] if inner else None
    if len(shape) > _MOST_DIMENSIONS:
        return expected.error(f"{len(shape)} nested lists at {column.where}, more than {_MOST_DIMENSIONS}")
    path, received = _first_invalid(column.value, shape, expected.dtype, ())
    indices = [f"[{index}]" for index in path]
    return expected.error(f"{received} at {column.where}{''.join(indices[:1])}{column.key}{''.join(indices[1:])}")


def _first_invalid(value: Any, shape: list[int], dtype: tf.DType, path: tuple[int, ...]) -> tuple | None:
    """Returns the position and a description of the first part that differs from the shape or dtype."""
    if len(path) == len(shape):
        return None if _fits(value, dtype) else (path, described(value))
    if type(value) is not list:
        return path, described(value)
    if len(value) != shape[len(path)]:
        return path, f"{described(value)}, not {shape[len(path)]} as before it,"
    found = (_first_invalid(item, shape, dtype, (*path, index)) for index, item in enumerate(value))
    return next(filter(None, found), None)


def _fits(leaf: Any, dtype: tf.DType) -> bool:
    try:
        _vector([leaf], dtype, booleans=True)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def _check_first_dimensions(outputs: Mapping[str, np.ndarray]) -> None:
    expected = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if expected not in (None, len(array)):
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {expected}")
        expected = len(array)


def _json_form(name: str, array: np.ndarray) -> Any:
    """Prepares an output for `encode`: nested lists of strings, a contiguous array, or the number of a scalar."""
    if array.dtype == object:
        # Bytes that are not UTF-8 would make the whole answer invalid; outputs named _bytes keep them.
        convert = to_base64 if name.endswith("_bytes") else lambda value: value.decode(errors="replace")
        return np.vectorize(convert, otypes=[object])(array).tolist()
    dtype = tf.as_dtype(array.dtype)
    if dtype not in PYTHON_TYPES:
        raise invalid(f"Failed to write JSON value for tensor type: {dtype_name(dtype)}")
    return np.ascontiguousarray(array) if array.ndim else array[()]


def _is_finite(value: Any) -> bool:
    dtype = getattr(value, "dtype", None)
    return dtype is None or dtype.kind != "f" or bool(np.isfinite(value).all())
