"""Converts between arrays and TensorFlow Serving's JSON form of tensors.

Source: ``util/json_tensor.cc`` of https://github.com/tensorflow/serving and the API page
https://www.tensorflow.org/tfx/serving/api_rest. All errors are ``tf.errors`` with TF Serving's codes and messages, like
the errors of a running model, so that both are mapped to HTTP statuses in the same way.

Different on purpose: an integer outside the range of the input's dtype is rejected, where TF Serving wraps around 8-bit
and 16-bit types; a tensor has at most 64 dimensions, numpy's limit.

Values are checked list by list, not one by one. If decoding fails, `parity_errors` finds the first invalid value.
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


def read_document(body: bytes, most_levels: int = 1_000_000, seconds: float = 10.0) -> Document:
    """Parses the JSON object in a request's body.

    Args:
        body: JSON in UTF-8; bare ``NaN``, ``Infinity`` and ``-Infinity`` are numbers, text after the value is ignored.
        most_levels: maximum depth of nested lists and objects. Defaults to 1,000,000.
        seconds: maximum time for parsing. Defaults to 10.

    Raises:
        tf.errors.DeadlineExceededError: if parsing takes longer.
        tf.errors.InvalidArgumentError: if the body is not a JSON object, or ``signature_name`` is not a string.
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
    """Decodes the tensors of ``:predict``, in row format ("instances") or column format ("inputs").

    Args:
        document: the request.
        signatures: names and dtypes of the inputs of each signature. As in TF Serving, dtypes come from the signature
            and shapes from the data.

    Raises:
        tf.errors.InvalidArgumentError: if the request does not match the signature; the message contains the position.
        tf.errors.UnimplementedError: if the dtype of an input has no JSON form (complex, half).
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
    """Prepares a numpy array or number for `encode`, with NaN and infinities as bare words; returns others as is."""
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
    """Converts a JSON value to a tensor; returns None if it is not a tensor of the dtype."""
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
        numbers = np.array(packed("d", leaves))  # rejects everything except numbers and booleans, which become 0 and 1
    except TypeError:
        return None
    with np.errstate(over="ignore"):  # values too large for float32 become infinite, as in TF Serving
        return numbers.astype(dtype.as_numpy_dtype, copy=False)


def _strings(leaves: list) -> np.ndarray | None:
    if any(isinstance(leaf, dict) and is_object(leaf) for leaf in leaves):
        return None
    strings = np.empty(len(leaves), object)
    try:
        strings[:] = [_bytes(leaf) for leaf in leaves]
    except tf.errors.InvalidArgumentError:  # invalid base64: `parity_errors` finds its position
        return None
    return strings


def _exact(leaves: list, dtype: tf.DType) -> np.ndarray | None:
    """Converts integers or booleans."""
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
