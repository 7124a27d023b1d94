"""TensorFlow Serving's error messages for predict requests that cannot be decoded.

The contract: a rejected request gets the status and message that TensorFlow Serving would send, so that clients can
switch between the two servers. `codec` decodes whole lists at once, which is fast but does not locate an invalid value.
Only when it fails, `refuse_rows` or `refuse_column` visits the values one by one in TF Serving's order and raises the
error of the first invalid one; valid requests are never visited twice. The only exceptions are the deliberate
differences listed in `codec`.

Source: ``util/json_tensor.cc`` of https://github.com/tensorflow/serving.
"""

import base64
import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn

import tensorflow as tf

from keras_dl.serving.server.errors import code_name, dtype_name, invalid

MOST_DIMENSIONS = 64  # numpy's limit
_INTEGERS = (tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint32, tf.uint64)
PYTHON_TYPES = {tf.float32: {int, float}, tf.float64: {int, float}, tf.bool: {bool}, tf.string: {str, dict}}
PYTHON_TYPES |= dict.fromkeys(_INTEGERS, {int})
_JSON_TYPES = {dict: "Object", list: "Array", str: "String", int: "Number", float: "Number", type(None): "Null"}
_SHOWN_CHARACTERS = 256


def refuse_rows(rows: list, dtypes: Mapping[str, tf.DType], named: bool) -> NoReturn:
    """Raises the error for "instances" that are not tensors of equal shape.

    Args:
        rows: the value of "instances".
        dtypes: names and dtypes of the inputs of the signature.
        named: whether the first row is an object of named values.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    (single, *_) = dtypes
    for position, row in enumerate(rows):
        if named != is_object(row):
            kinds = "object but got list" if named else "value/list but got object"
            raise invalid(f"Expecting {kinds} at item {position} of input list")
        for name, value in row.items() if named else ((single, row),):
            try:
                if name not in dtypes:
                    raise invalid(f"JSON object: does not have named input: {name}")
                shape, size = _check(value, dtypes[name], MOST_DIMENSIONS - 1)
                _check_same(shapes.setdefault(name, shape), shape, size)
            except tf.errors.OpError as error:
                element = f"{position} key: {name}" if named else position
                cause = f"{code_name(error)}: {error.message}"
                raise invalid(f"Failed to process element: {element} of 'instances' list. Error: {cause}") from None
        if named and row.keys() != dtypes.keys():
            problem = f"JSON object: {shown(row)} keys must be equal to: {','.join(sorted(dtypes))}"
            raise invalid(f"Failed to process element: {position} of 'instances' list. {problem}")
    raise invalid(f"JSON Value: {shown(rows)} not formatted correctly")


def refuse_column(value: Any, dtype: tf.DType) -> NoReturn:
    """Raises the error for a value in "inputs" that is not a tensor of the dtype."""
    _check(value, dtype, MOST_DIMENSIONS)
    raise invalid(f"JSON Value: {shown(value)} not formatted correctly")


def from_base64(value: dict) -> bytes:
    """Decodes ``{"b64": "..."}``; as in TF Serving, whitespace is ignored and padding is optional."""
    digits = "".join(value["b64"].split())
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except ValueError:
        raise invalid("Unable to base64 decode") from None


def is_object(value: Any) -> bool:
    """Returns whether a JSON value is an object of named values; ``{"b64": "..."}`` is a string."""
    return isinstance(value, dict) and not (value.keys() == {"b64"} and isinstance(value["b64"], str))


def json_type(value: Any) -> str:
    """Returns RapidJSON's name of a value's type: Null, False, True, Object, Array, String or Number."""
    return str(value) if isinstance(value, bool) else _JSON_TYPES[type(value)]


def shown(value: Any) -> str:
    """Returns the beginning of a JSON value for a message; the value may be megabytes long."""
    text = ""
    for piece in json.JSONEncoder(ensure_ascii=False).iterencode(value):
        text += piece[:_SHOWN_CHARACTERS]
        if len(text) >= _SHOWN_CHARACTERS:
            break
    return text[:_SHOWN_CHARACTERS]


def _check(value: Any, dtype: tf.DType, most_dimensions: int) -> tuple[tuple[int, ...], int]:
    """Returns the shape of a value according to its first elements, and its number of elements."""
    shape, inner = [], value
    while isinstance(inner, list):
        shape.append(len(inner))
        inner = inner[0] if inner else None
    if len(shape) > most_dimensions:
        raise invalid(f"Expecting at most {most_dimensions} dimensions but got: {len(shape)}")
    return tuple(shape), _count(value, 0, shape, dtype)


def _count(value: Any, level: int, shape: list[int], dtype: tf.DType) -> int:
    if not isinstance(value, list):
        if level != len(shape):
            levels = f"{level + 1} in the JSON DOM. Expected at level: {len(shape)}"
            raise invalid(f"JSON Value: {shown(value)} found at incorrect level: {levels}")
        _check_leaf(value, dtype)
        return 1
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        sizes = f"{len(value)} at level: {level} expected size: {shape[level]}"
        raise invalid(f"Encountered list at unexpected size: {sizes}")
    return sum(_count(item, level + 1, shape, dtype) for item in value)


def _check_leaf(value: Any, dtype: tf.DType) -> None:
    if dtype == tf.string and isinstance(value, dict):
        if is_object(value):
            raise invalid(f"JSON Value: {shown(value)} not formatted correctly for base64 data")
        from_base64(value)
    elif dtype not in PYTHON_TYPES:
        problem = f"Conversion of JSON Value: {shown(value)} to type: {dtype_name(dtype)}"
        raise tf.errors.UnimplementedError(None, None, problem)
    elif type(value) not in PYTHON_TYPES[dtype] or dtype in _INTEGERS and not dtype.min <= value <= dtype.max:
        problem = f"Type: {json_type(value)} is not of expected type: {dtype_name(dtype)}"
        raise invalid(f"JSON Value: {shown(value)} {problem}")


def _check_same(expected: tuple[int, ...], shape: tuple[int, ...], size: int) -> None:
    if size != math.prod(expected):
        raise invalid(f"Expecting tensor size: {math.prod(expected)} but got: {size}")
    if shape != expected:
        raise invalid(f"Expecting shape {_shape_text(expected)} but got: {_shape_text(shape)}")


def _shape_text(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"
