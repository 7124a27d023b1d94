"""TensorFlow Serving's JSON form of tensors: a request body to arrays, and arrays to an answer.

Source: ``util/json_tensor.cc`` of https://github.com/tensorflow/serving and the API page
https://www.tensorflow.org/tfx/serving/api_rest. All errors are ``tf.errors`` with TF Serving's codes and texts, so that
one table turns them, and those of a running model, into HTTP statuses.

Two differences on purpose: an integer that does not fit the input's type is refused where TF Serving wraps 8 and 16
bit types around, and nesting deeper than Python's recursion limit is refused.
"""

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import error_codes_pb2

_INTEGERS = (tf.int8, tf.int16, tf.int32, tf.int64, tf.uint8, tf.uint32, tf.uint64)
_PYTHON_TYPES = {tf.float32: {int, float}, tf.float64: {int, float}, tf.bool: {bool}, tf.string: {str, dict}}
_PYTHON_TYPES |= dict.fromkeys(_INTEGERS, {int})
_JSON_TYPES = {dict: "Object", list: "Array", str: "String", int: "Number", float: "Number", type(None): "Null"}
_SHOWN_CHARACTERS = 256
_MOST_DIMENSIONS = 64  # numpy's limit


@dataclass(frozen=True)
class PredictRequest:
    """A decoded predict request.

    Attributes:
        signature_name: the signature to run.
        inputs: one array for each input of the signature, with the signature's dtype and the request's shape (strings
            as object arrays of bytes).
        rows: True where the request had "instances" and the answer must have "predictions".
    """

    signature_name: str
    inputs: dict[str, np.ndarray]
    rows: bool


def decode_predict(body: bytes, signatures: Mapping[str, Mapping[str, tf.DType]]) -> PredictRequest:
    """Reads the body of ``:predict``, in row format ("instances") or column format ("inputs").

    Args:
        body: JSON in UTF-8; bare ``NaN``, ``Infinity`` and ``-Infinity`` are numbers, text after the value is ignored.
        signatures: for each signature its inputs' names and dtypes. The dtype comes from here, the shape from the
            data, as in TF Serving.

    Raises:
        tf.errors.InvalidArgumentError: the body is not what the signature needs; the message says where.
        tf.errors.UnimplementedError: an input's dtype has no JSON form (complex, half).
    """
    try:
        document = _parse(body)
        name = document.get("signature_name", "")
        if not isinstance(name, str):
            shown = _shown(document)
            raise invalid(f"JSON Value: {shown} not formatted correctly. 'signature_name' key must be a string value.")
        name = name or "serving_default"
        if name not in signatures:
            raise invalid(f'Serving signature name: "{name}" not found in signature def')
        dtypes = signatures[name]
        if not dtypes:
            raise invalid(f"Failed to get input map for signature: {name}")
        if "instances" in document and "inputs" in document:
            problem = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"
            raise invalid(f"JSON Value: {_shown(document)} {problem}")
        if "instances" in document:
            return PredictRequest(name, _from_rows(document, dtypes), rows=True)
        if "inputs" in document:
            return PredictRequest(name, _from_columns(document["inputs"], dtypes), rows=False)
        raise invalid("Missing 'inputs' or 'instances' key")
    except RecursionError:
        raise invalid("JSON Parse error: the document is nested too deeply") from None


def encode_predict(outputs: Mapping[str, np.ndarray], rows: bool) -> bytes:
    """Writes a model's outputs as the answer to ``:predict``.

    One output is written bare, several as objects; string outputs whose name ends in ``_bytes`` as ``{"b64": ...}``;
    floats in the shortest form that reads back as the same number of their own precision.

    Args:
        outputs: arrays of any shape in column format, of one common first dimension in row format.
        rows: True for ``{"predictions": ...}``, False for ``{"outputs": ...}``.

    Raises:
        tf.errors.InvalidArgumentError: no outputs, a dtype without JSON form, or in row format a scalar or different
            first dimensions.
    """
    if not outputs:
        raise invalid("Cannot convert empty tensor map to JSON")
    if rows:
        _check_first_dimensions(outputs)
    values = {name: _to_lists(name, array) for name, array in outputs.items()}
    if len(values) == 1:
        (answer,) = values.values()
    elif rows:
        answer = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    else:
        answer = values
    return json.dumps({"predictions" if rows else "outputs": answer}).encode()


def invalid(message: str) -> tf.errors.InvalidArgumentError:
    """An error with TF Serving's code INVALID_ARGUMENT (HTTP 400)."""
    return tf.errors.InvalidArgumentError(None, None, message)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        text = body.decode("utf-8-sig")
        start = len(text) - len(text.lstrip(" \t\r\n"))
        if start == len(text):
            raise invalid("JSON Parse error: The document is empty.")
        document, _ = json.JSONDecoder().raw_decode(text, start)
    except UnicodeDecodeError:
        raise invalid("JSON Parse error: Invalid encoding in string.") from None
    except json.JSONDecodeError as error:
        reason = "Invalid value." if error.msg == "Expecting value" else error.msg
        raise invalid(f"JSON Parse error: {reason} at offset: {error.pos}") from None
    except ValueError:  # Python refuses to convert integers of thousands of digits
        raise invalid("JSON Parse error: Number too big to be stored in double.") from None
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {_shown(document)} Is not object")
    return document


def _from_rows(document: dict, dtypes: Mapping[str, tf.DType]) -> dict[str, np.ndarray]:
    rows = document["instances"]
    if not isinstance(rows, list):
        raise invalid(f"JSON Value: {_shown(document)} Expecting 'instances' to be an list/array")
    if not rows:
        raise invalid(f"JSON Value: {_shown(document)} No values in 'instances' array")
    named = _is_object(rows[0])
    if not named and len(dtypes) > 1:
        needed = "list of objects as multiple input tensors required as per tensorinfo_map"
        raise invalid(f"instances is a plain list, but expecting {needed}: {','.join(sorted(dtypes))}")
    tensors = {name: _Tensor(dtype) for name, dtype in dtypes.items()}
    (single, *_) = tensors
    for position, row in enumerate(rows):
        if named != _is_object(row):
            kinds = "object but got list" if named else "value/list but got object"
            raise invalid(f"Expecting {kinds} at item {position} of input list")
        for name, value in row.items() if named else ((single, row),):
            try:
                if name not in tensors:
                    raise invalid(f"JSON object: does not have named input: {name}")
                tensors[name].add_row(value)
            except tf.errors.OpError as error:
                element = f"{position} key: {name}" if named else position
                cause = f"{error_codes_pb2.Code.Name(error.error_code)}: {error.message}"
                raise invalid(f"Failed to process element: {element} of 'instances' list. Error: {cause}") from None
        if named and row.keys() != dtypes.keys():
            problem = f"JSON object: {_shown(row)} keys must be equal to: {','.join(sorted(dtypes))}"
            raise invalid(f"Failed to process element: {position} of 'instances' list. {problem}")
    return {name: tensor.array((len(rows), *tensor.shape)) for name, tensor in tensors.items()}


def _from_columns(value: Any, dtypes: Mapping[str, tf.DType]) -> dict[str, np.ndarray]:
    if not _is_object(value):
        if len(dtypes) > 1:
            needed = "an object as multiple input tensors required as per tensorinfo_map"
            raise invalid(f"inputs is a plain value/list, but expecting {needed}: {','.join(sorted(dtypes))}")
        value = dict.fromkeys(dtypes, value)
    arrays = {}
    for name, dtype in dtypes.items():
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        tensor = _Tensor(dtype)
        tensor.add_row(value[name])
        arrays[name] = tensor.array(tensor.shape)
    return arrays


class _Tensor:
    """Collects the values of one input, row by row, and checks that each is of the dtype and all of one shape."""

    def __init__(self, dtype: tf.DType):
        self.dtype = dtype
        self.shape: tuple[int, ...] | None = None
        self._leaves: list = []

    def add_row(self, value: Any) -> None:
        shape, inner = [], value
        while isinstance(inner, list):
            shape.append(len(inner))
            inner = inner[0] if inner else None
        before = len(self._leaves)
        self._add(value, 0, shape)
        size = len(self._leaves) - before
        if self.shape is None:
            self.shape = tuple(shape)
        elif size != math.prod(self.shape):
            raise invalid(f"Expecting tensor size: {math.prod(self.shape)} but got: {size}")
        elif self.shape != tuple(shape):
            raise invalid(f"Expecting shape {_shape_text(self.shape)} but got: {_shape_text(shape)}")

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) > _MOST_DIMENSIONS:
            raise invalid(f"Expecting at most {_MOST_DIMENSIONS} dimensions but got: {len(shape)}")
        # Through float64, as a JSON number is read: what is too large for float32 becomes infinite without a word.
        numpy_dtype = np.float64 if self.dtype.is_floating else self.dtype.as_numpy_dtype
        try:
            with np.errstate(over="ignore"):
                return np.array(self._leaves, numpy_dtype).astype(self.dtype.as_numpy_dtype, copy=False).reshape(shape)
        except OverflowError:  # an integer beyond the range of a double
            raise invalid("JSON Parse error: Number too big to be stored in double.") from None

    def _add(self, value: Any, level: int, shape: list[int]) -> None:
        if not isinstance(value, list):
            if level != len(shape):
                levels = f"{level + 1} in the JSON DOM. Expected at level: {len(shape)}"
                raise invalid(f"JSON Value: {_shown(value)} found at incorrect level: {levels}")
            self._leaves.append(self._leaf(value))
            return
        if level >= len(shape):
            raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
        if len(value) != shape[level]:
            sizes = f"{len(value)} at level: {level} expected size: {shape[level]}"
            raise invalid(f"Encountered list at unexpected size: {sizes}")
        # A list of good numbers is taken whole: a request is mostly these, and a look at each costs ten times more.
        if value and level == len(shape) - 1 and self.dtype != tf.string and self._are_leaves(value):
            self._leaves.extend(value)
            return
        for item in value:
            self._add(item, level + 1, shape)

    def _are_leaves(self, values: list) -> bool:
        if not set(map(type, values)) <= _PYTHON_TYPES.get(self.dtype, set()):
            return False
        return self.dtype not in _INTEGERS or (self.dtype.min <= min(values) and max(values) <= self.dtype.max)

    def _leaf(self, value: Any) -> Any:
        if self.dtype not in _PYTHON_TYPES:
            problem = f"Conversion of JSON Value: {_shown(value)} to type: {_dtype_name(self.dtype)}"
            raise tf.errors.UnimplementedError(None, None, problem)
        if not self._are_leaves([value]):
            kind = str(value) if isinstance(value, bool) else _JSON_TYPES[type(value)]
            expected = _dtype_name(self.dtype)
            raise invalid(f"JSON Value: {_shown(value)} Type: {kind} is not of expected type: {expected}")
        if isinstance(value, str):
            try:
                return value.encode()
            except UnicodeEncodeError:
                raise invalid("JSON Parse error: The surrogate pair in string is invalid.") from None
        if isinstance(value, dict):
            return _from_base64(value)
        return value


def _from_base64(value: dict) -> bytes:
    if _is_object(value):
        raise invalid(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
    digits = "".join(value["b64"].split())
    try:
        return base64.b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except ValueError:
        raise invalid("Unable to base64 decode") from None


def _is_object(value: Any) -> bool:
    """Whether it names tensors; ``{"b64": "..."}`` is a string value."""
    return isinstance(value, dict) and not (value.keys() == {"b64"} and isinstance(value["b64"], str))


def _check_first_dimensions(outputs: Mapping[str, np.ndarray]) -> None:
    expected = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if expected not in (None, len(array)):
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {expected}")
        expected = len(array)


def _to_lists(name: str, array: np.ndarray) -> Any:
    if array.dtype == object:
        # Bytes that are not UTF-8 would make the whole answer unreadable; a name ending in _bytes keeps them.
        convert = _to_base64 if name.endswith("_bytes") else lambda value: value.decode(errors="replace")
        return np.vectorize(convert, otypes=[object])(array).tolist()
    dtype = tf.as_dtype(array.dtype)
    if dtype not in _PYTHON_TYPES:
        raise invalid(f"Failed to write JSON value for tensor type: {_dtype_name(dtype)}")
    if dtype == tf.float32:
        array = array.astype(str).astype(np.float64)  # 0.2 stays 0.2, and does not become 0.20000000298023224
    return array.tolist()


def _to_base64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


def _shape_text(shape) -> str:
    return f"[{','.join(map(str, shape))}]"


def _dtype_name(dtype: tf.DType) -> str:
    """As TensorFlow's C++ names it: float, double, half, int32, ..."""
    return types_pb2.DataType.Name(dtype.as_datatype_enum).removeprefix("DT_").lower()


def _shown(value: Any) -> str:
    """The beginning of a JSON value, for messages; the whole may be megabytes."""
    shown = ""
    for piece in json.JSONEncoder().iterencode(value):
        shown += piece
        if len(shown) >= _SHOWN_CHARACTERS:
            break
    return shown[:_SHOWN_CHARACTERS]
