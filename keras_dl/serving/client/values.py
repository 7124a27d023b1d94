"""Conversion of inputs and outputs to arrays of a signature's dtypes, for both protocols. Does not need TensorFlow.

Strings are sent as object arrays of bytes. They are returned as object arrays of str, except strings that are not UTF-8
and outputs whose name ends in ``_bytes`` (the convention of TensorFlow Serving's REST API), which are bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from keras_dl.errors import UserError

_KINDS = {"U": "strings", "S": "bytes", "f": "floats", "i": "integers", "u": "integers", "b": "booleans"}
_TAKES = {"f": "fiu", "i": "iu", "u": "iu", "b": "b", "c": "cfiu"}  # NumPy kinds: target -> accepted


class Target(NamedTuple):
    """The model that a request is for, with a version number or label if one is given."""

    name: str
    version: int | None = None
    label: str | None = None


class VersionStatus(NamedTuple):
    """The status of one version of a served model.

    `state` is START, LOADING, AVAILABLE, UNLOADING or END; `error_code` is OK, or the code of the error on loading,
    such as NOT_FOUND.
    """

    version: int
    state: str
    error_code: str
    error_message: str


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a signature: `{name: (dtype, shape)}`.

    The dtype is a name such as "float32" or "string"; the shape has None for an unknown size, or is None for an unknown
    rank.
    """

    inputs: Mapping[str, tuple[str, list[int | None] | None]]
    outputs: Mapping[str, tuple[str, list[int | None] | None]]


def read_signatures(described: Mapping[str, Any]) -> dict[str, Signature]:
    """Returns the signatures of a ``signature_def`` in JSON, as returned by REST or by `json_format`."""
    names = {"FLOAT": "float32", "DOUBLE": "float64", "HALF": "float16"}

    def tensors(infos):
        found = {}
        for name, info in infos.items():
            dtype = info.get("dtype", "DT_INVALID").removeprefix("DT_")
            shape = info.get("tensor_shape", {})
            sizes = [int(dimension.get("size", 0)) for dimension in shape.get("dim", [])]
            known = None if shape.get("unknown_rank") else [None if size < 0 else size for size in sizes]
            found[name] = (names.get(dtype, dtype.lower()), known)
        return found

    return {
        name: Signature(tensors(signature.get("inputs", {})), tensors(signature.get("outputs", {})))
        for name, signature in described.items()
    }


def input_arrays(model: str, inputs: Mapping[str, Any], signature: Signature | None) -> dict[str, np.ndarray]:
    """Converts each input to an array of its dtype. Unknown inputs are left unchanged, for the server to reject.

    UserError is raised for values that do not fit the dtype; rounding is allowed.
    """
    known = signature.inputs if signature else {}
    if set(inputs) == {""} and len(known) == 1:
        inputs = {next(iter(known)): inputs[""]}
    return {name: _as_array(f"{model}: input {name}", value, *known.get(name, ())) for name, value in inputs.items()}


def example_arrays(model: str, examples: Sequence[Mapping[str, Any]]) -> list[dict[str, np.ndarray]]:
    """Converts the features of examples to arrays of rank 0 or 1 of bytes, int64 or float32."""
    arrays = []
    for position, example in enumerate(examples):
        arrays.append({})
        for name, value in example.items():
            where = f"{model}: feature {name} of example {position}"
            array = _as_array(where, value, None)
            if array.dtype != object:
                array = _as_array(where, array, "float32" if array.dtype.kind == "f" else "int64")
            if array.ndim > 1:
                raise UserError(f"{where}: expected a value or a list of values. Received: rank {array.ndim}")
            arrays[-1][name] = array
    return arrays


def _as_array(
    where: str, value: Any, dtype: str | None = None, shape: Sequence[int | None] | None = None
) -> np.ndarray:
    expected = (dtype or "numbers") + (f" of shape {tuple(shape)}" if shape is not None else "")
    if dtype == "string" or (dtype is None and _is_text(value)):
        return _as_bytes(where, expected, value)
    try:
        array = np.asarray(value)
        target = array.dtype if dtype is None else _numpy_dtype(dtype, array.dtype)
        if target == np.uint64 and array.dtype == np.float64 and not isinstance(value, np.ndarray):
            array = _large_integers(value, array)
    except ValueError as error:
        raise UserError(f"{where}: expected {expected}. Received: lists of different lengths ({error})") from None
    if array.dtype == target and array.dtype != object:
        return array
    if array.dtype == object:
        raise UserError(f"{where}: expected {expected}. Received: values that are not all numbers")
    if array.size and array.dtype.kind not in _TAKES.get(target.kind, array.dtype.kind):
        received = f"{_KINDS.get(array.dtype.kind, array.dtype)} of shape {array.shape}"
        raise UserError(f"{where}: expected {expected}. Received: {received}")
    with np.errstate(over="ignore", invalid="ignore"):
        converted = array.astype(target)
    if target.kind in "iu" and (converted != array).any():
        raise UserError(f"{where}: expected {expected}. Received: {array.min()} to {array.max()}")
    lost = array[np.isfinite(array) & ~np.isfinite(converted)]
    if lost.size:
        raise UserError(f"{where}: expected {expected}. Received: {lost.flat[0]}, which is out of range")
    return converted


def _large_integers(value: Any, default: np.ndarray) -> np.ndarray:
    """Returns uint64 for lists of integers below and above 2**63, which NumPy converts to floats."""
    leaves = np.array(value, dtype=object)
    if all(type(leaf) is int and 0 <= leaf < 2**64 for leaf in leaves.flat):
        return leaves.astype(np.uint64)
    return default


def _numpy_dtype(name: str, default: np.dtype) -> np.dtype:
    try:
        return np.dtype(name)
    except TypeError:  # a TensorFlow dtype without a NumPy one, such as qint8: the server rejects it
        return default


def _is_text(value: Any) -> bool:
    while isinstance(value, list | tuple) and value:
        value = value[0]
    return isinstance(value, str | bytes) or (isinstance(value, np.ndarray) and value.dtype.kind in "OSU")


def _as_bytes(where: str, expected: str, value: Any) -> np.ndarray:
    texts = np.array(value, dtype=object)
    encoded = np.empty(texts.shape, dtype=object)
    for position, text in enumerate(texts.flat):
        if isinstance(text, str):
            try:
                text = text.encode()
            except UnicodeEncodeError:
                raise UserError(f"{where}: expected valid Unicode. Received: {text!r}") from None
        if not isinstance(text, bytes):
            expected = "str or bytes" if expected == "numbers" else expected
            raise UserError(f"{where}: expected {expected}. Received: {type(text).__name__}")
        encoded.flat[position] = text
    return encoded


def output_array(name: str, array: np.ndarray) -> np.ndarray:
    """Decodes an object array of bytes to str, except strings that are not UTF-8 and outputs named ``*_bytes``."""
    if array.dtype != object or name.endswith("_bytes"):
        return array
    texts = np.empty(array.shape, dtype=object)
    for position, content in enumerate(array.flat):
        try:
            texts.flat[position] = content.decode()
        except UnicodeDecodeError:
            texts.flat[position] = content
    return texts
