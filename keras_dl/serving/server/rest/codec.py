"""TensorFlow Serving's JSON form of tensors: predict requests to arrays, and arrays to answers.

Source: ``util/json_tensor.cc`` of https://github.com/tensorflow/serving and the API page
https://www.tensorflow.org/tfx/serving/api_rest. All errors are ``tf.errors`` with TF Serving's codes and texts, so that
one table turns them, and those of a running model, into HTTP statuses.

Different on purpose: an integer that does not fit the input's type is refused where TF Serving wraps 8 and 16 bit types
around; a tensor has at most 64 dimensions, numpy's limit.

Values of a request are checked list by list and not one by one; what is not regular is handed to `refusals`, which
finds the first thing that is wrong.
"""

from array import array as packed
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import orjson
import tensorflow as tf

from keras_dl.serving.json_bytes import to_base64
from keras_dl.serving.server.errors import dtype_name, invalid
from keras_dl.serving.server.rest.json_text import parse
from keras_dl.serving.server.rest.parity_errors import (
    MOST_DIMENSIONS,
    PYTHON_TYPES,
    from_base64,
    is_object,
    refuse_column,
    refuse_rows,
    shown,
)

_WORDS = np.array([b"NaN", b"Infinity", b"-Infinity"], object)


@dataclass(frozen=True)
class Document:
    """The JSON object of a request.

    Attributes:
        members: its values by name.
        signature_name: the signature that it asks for, "" where it gives none.
        may_have_booleans: False where the text has no "true" and no "false", so that nobody has to look for them.
    """

    members: dict[str, Any]
    signature_name: str = ""
    may_have_booleans: bool = True


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


def read_document(body: bytes, most_levels: int = 1_000_000, seconds: float = 10.0) -> Document:
    """The object in a request's body.

    Args:
        body: JSON in UTF-8; bare ``NaN``, ``Infinity`` and ``-Infinity`` are numbers, text after the value is ignored.
        most_levels: lists and objects within each other. Defaults to a million.
        seconds: that reading may take. Defaults to 10.

    Raises:
        tf.errors.DeadlineExceededError: it took longer.
        tf.errors.InvalidArgumentError: it is no JSON object, or ``signature_name`` is no string.
    """
    members = parse(body, most_levels, seconds)
    if not isinstance(members, dict):
        raise invalid(f"JSON Value: {shown(members)} Is not object")
    name = members.get("signature_name", "")
    if not isinstance(name, str):
        problem = "not formatted correctly. 'signature_name' key must be a string value."
        raise invalid(f"JSON Value: {shown(members)} {problem}")
    return Document(members, name, b"true" in body or b"false" in body)


def decode_predict(document: Document, signatures: Mapping[str, Mapping[str, tf.DType]]) -> PredictRequest:
    """Reads the tensors of ``:predict``, in row format ("instances") or column format ("inputs").

    Args:
        document: the request.
        signatures: for each signature its inputs' names and dtypes. The dtype comes from here, the shape from the
            data, as in TF Serving.

    Raises:
        tf.errors.InvalidArgumentError: the request is not what the signature needs; the message says where.
        tf.errors.UnimplementedError: an input's dtype has no JSON form (complex, half).
    """
    name, members = document.signature_name or "serving_default", document.members
    if name not in signatures:
        raise invalid(f'Serving signature name: "{name}" not found in signature def')
    dtypes = signatures[name]
    if not dtypes:
        raise invalid(f"Failed to get input map for signature: {name}")
    if "instances" in members:
        if "inputs" in members:
            problem = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
            raise invalid(f"JSON Value: {shown(members)} {problem}")
        rows = members["instances"]
        if not isinstance(rows, list):
            raise invalid(f"JSON Value: {shown(members)} Expecting 'instances' to be an list/array")
        if not rows:
            raise invalid(f"JSON Value: {shown(members)} No values in 'instances' array")
        return PredictRequest(name, _from_rows(rows, dtypes, document.may_have_booleans), rows=True)
    if "inputs" in members:
        return PredictRequest(name, _from_columns(members["inputs"], dtypes, document.may_have_booleans), rows=False)
    raise invalid("Missing 'inputs' or 'instances' key")


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
    """``{key: answer}`` as JSON.

    Args:
        key: under which the answer stands.
        answer: Python values and what `json_numbers` gives.
    """
    return orjson.dumps({key: answer}, option=orjson.OPT_SERIALIZE_NUMPY)


def json_numbers(values: Any) -> Any:
    """A numpy array or number for `encode`, with NaN and infinities as bare words; all else as it is."""
    if _is_finite(values):
        return values
    odd = np.extract(~np.isfinite(values), values)
    # In numbers orjson writes null for just these.
    text = orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)
    if np.isnan(odd).all():
        return orjson.Fragment(text.replace(b"null", b"NaN"))
    parts = [b""] * (2 * len(odd) + 1)
    parts[::2] = text.split(b"null")
    parts[1::2] = _WORDS[np.where(np.isnan(odd), 0, np.where(odd > 0, 1, 2))].tolist()
    return orjson.Fragment(b"".join(parts))


def _from_rows(rows: list, dtypes: Mapping[str, tf.DType], booleans: bool) -> dict[str, np.ndarray]:
    named = is_object(rows[0])
    if not named and len(dtypes) > 1:
        needed = "list of objects as multiple input tensors required as per tensorinfo_map"
        raise invalid(f"instances is a plain list, but expecting {needed}: {','.join(sorted(dtypes))}")
    if not named:
        columns = dict.fromkeys(dtypes, rows)
    elif all(is_object(row) and row.keys() == dtypes.keys() for row in rows):
        columns = {name: [row[name] for row in rows] for name in dtypes}
    else:
        refuse_rows(rows, dtypes, named)
    arrays = {name: _array(column, dtypes[name], booleans) for name, column in columns.items()}
    if any(array is None for array in arrays.values()):
        refuse_rows(rows, dtypes, named)
    return arrays


def _from_columns(value: Any, dtypes: Mapping[str, tf.DType], booleans: bool) -> dict[str, np.ndarray]:
    if not is_object(value):
        if len(dtypes) > 1:
            needed = "an object as multiple input tensors required as per tensorinfo_map"
            raise invalid(f"inputs is a plain value/list, but expecting {needed}: {','.join(sorted(dtypes))}")
        value = dict.fromkeys(dtypes, value)
    arrays = {}
    for name, dtype in dtypes.items():
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        arrays[name] = _array(value[name], dtype, booleans)
        if arrays[name] is None:
            refuse_column(value[name], dtype)
    return arrays


def _array(value: Any, dtype: tf.DType, booleans: bool) -> np.ndarray | None:
    """The tensor that a JSON value is; None if it is none of the dtype."""
    shape, leaves = [], [value]
    while leaves and type(leaves[0]) is list:
        sizes = set(map(len, leaves)) if set(map(type, leaves)) == {list} else ()
        if len(sizes) != 1 or len(shape) == MOST_DIMENSIONS:
            return None
        shape += sizes
        leaves = list(chain.from_iterable(leaves))
    if dtype in (tf.float32, tf.float64):
        tensor = _floats(leaves, dtype, booleans)
    elif dtype not in PYTHON_TYPES or not set(map(type, leaves)) <= PYTHON_TYPES[dtype]:
        return None
    else:
        tensor = _strings(leaves) if dtype == tf.string else _exact(leaves, dtype)
    return None if tensor is None else tensor.reshape(shape)


def _floats(leaves: list, dtype: tf.DType, booleans: bool) -> np.ndarray | None:
    if booleans and bool in set(map(type, leaves)):
        return None
    try:
        numbers = np.array(packed("d", leaves))  # refuses all but numbers, and booleans, which it takes for 0 and 1
    except TypeError:
        return None
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite without a word, as there
        return numbers.astype(dtype.as_numpy_dtype, copy=False)


def _strings(leaves: list) -> np.ndarray | None:
    if any(isinstance(leaf, dict) and is_object(leaf) for leaf in leaves):
        return None
    strings = np.empty(len(leaves), object)
    strings[:] = [_bytes(leaf) for leaf in leaves]
    return strings


def _exact(leaves: list, dtype: tf.DType) -> np.ndarray | None:
    """Integers or booleans."""
    if dtype.is_integer and leaves and not dtype.min <= min(leaves) <= max(leaves) <= dtype.max:
        return None
    return np.array(leaves, dtype.as_numpy_dtype)


def _bytes(leaf: str | dict) -> bytes:
    return leaf.encode("utf-8", "surrogateescape") if isinstance(leaf, str) else from_base64(leaf)


def _check_first_dimensions(outputs: Mapping[str, np.ndarray]) -> None:
    expected = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if expected not in (None, len(array)):
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {expected}")
        expected = len(array)


def _json_form(name: str, array: np.ndarray) -> Any:
    """What `encode` writes: nested lists of strings, a contiguous array or, in place of a scalar array, its number."""
    if array.dtype == object:
        # Bytes that are not UTF-8 would make the whole answer unreadable; a name ending in _bytes keeps them.
        convert = to_base64 if name.endswith("_bytes") else lambda value: value.decode(errors="replace")
        return np.vectorize(convert, otypes=[object])(array).tolist()
    dtype = tf.as_dtype(array.dtype)
    if dtype not in PYTHON_TYPES:
        raise invalid(f"Failed to write JSON value for tensor type: {dtype_name(dtype)}")
    return np.ascontiguousarray(array) if array.ndim else array[()]


def _is_finite(value: Any) -> bool:
    dtype = getattr(value, "dtype", None)
    return dtype is None or dtype.kind != "f" or bool(np.isfinite(value).all())
