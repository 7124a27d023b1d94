"""The manifest of an export: `assets.extra/manifest.json`, in TensorFlow Serving's folder for extra files.

::

    {"format": 1, "name": "digits", "version": 3, "exported": ISO time in UTC, "git_commit": "9d98..." | null,
     "origin": {"run_id": ..., "metric": ..., "value": ..., "fingerprint": ..., "values": {...}, "pipeline": ...},
     "signatures": {NAME: {"inputs": {NAME: {"dtype": "float32", "shape": [null, null, 8]}}, "outputs": {...},
                           "batching": {"rows_independent": true, "padded_axes": {"image": [2]},
                                        "cropped_axes": {"logits": 1}, "why": "..."}}},
     "request": {INPUT: VALUE}}

`request` is an example for `serving_default`, in the form of TensorFlow Serving's "inputs"; bytes that are not UTF-8
are `{"b64": ...}`. It is `{}` if there is no example, or if it is larger than 1 MiB.

The server relies on the manifest, which anyone may have edited: `read_manifest` removes every part that does not match
the graph when the model is loaded, so that no request depends on a wrong entry.
"""

import datetime
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from keras_dl.serving.json_bytes import from_json as bytes_from_json
from keras_dl.serving.json_bytes import to_json as bytes_to_json
from keras_dl.serving.versions import MANIFEST

logger = logging.getLogger(__name__)

Signatures = Mapping[str, meta_graph_pb2.SignatureDef]
_FORMAT = 1
_LARGEST_REQUEST = 2**20
_TYPES = {"request": dict, "origin": dict, "exported": str | None, "git_commit": str | None, "signatures": dict}


def build_manifest(
    name: str,
    version: int,
    git_commit: str | None,
    origin: Mapping,
    signatures: Signatures,
    batching: Mapping[str, Mapping],
    request: Mapping[str, np.ndarray],
) -> dict:
    """Returns the manifest of an export, with the measured `batching` of each signature and an example request."""
    text = {key: json_value(array) for key, array in request.items()}
    return {
        "format": _FORMAT,
        "name": name,
        "version": version,
        "exported": datetime.datetime.now(datetime.UTC).isoformat("T", "seconds"),
        "git_commit": git_commit,
        "origin": dict(origin),
        "signatures": {
            key: {
                "inputs": {each: describe(info) for each, info in sorted(signature.inputs.items())},
                "outputs": {each: describe(info) for each, info in sorted(signature.outputs.items())},
                "batching": dict(batching[key]),
            }
            for key, signature in sorted(signatures.items())
            if key != "__saved_model_init_op"
        },
        "request": text if len(json.dumps(text)) <= _LARGEST_REQUEST else {},
    }


def write_manifest(folder: Path, manifest: Mapping) -> None:
    """Writes a manifest into the folder of a version that is being exported."""
    (folder / MANIFEST).parent.mkdir(exist_ok=True)
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in manifest.items())
    (folder / MANIFEST).write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


def read_manifest(folder: Path, signatures: Signatures | None = None) -> dict:
    """Reads the manifest of a version; `{}` for a SavedModel that keras-dl did not write or whose manifest is invalid.

    If the signatures of the graph are given, parts of the manifest that do not match them are removed (see
    `check_manifest`). A warning is logged for an invalid manifest and for removed parts.
    """
    file = folder / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:  # not exported by keras-dl
        return {}
    except (OSError, ValueError, RecursionError) as error:
        logger.warning("%s cannot be read and is ignored: %s", file, error)
        return {}
    if not isinstance(manifest, dict):
        logger.warning("%s is ignored: expected an object. Received: %s", file, type(manifest).__name__)
        return {}
    if manifest.get("format") != _FORMAT:
        logger.warning("%s is ignored: expected format %s. Received: %r", file, _FORMAT, manifest.get("format"))
        return {}
    if signatures is None:
        return manifest
    manifest, problems = check_manifest(manifest, signatures)
    if problems:
        logger.warning("%s is ignored in part: %s", file, "; ".join(problems))
    return manifest


def check_manifest(manifest: dict, signatures: Signatures) -> tuple[dict, list[str]]:
    """Removes the parts of a manifest that do not match the graph; returns the rest and a description of each removed
    part.

    The values of the rest have the right types, and its names and axes exist in the signatures. A signature with an
    error is removed entirely, so that its requests run alone.
    """
    problems = [
        f"{key} is of type {type(manifest[key]).__name__}"
        for key, expected in _TYPES.items()
        if key in manifest and not isinstance(manifest[key], expected)
    ]
    kept = {key: value for key, value in manifest.items() if isinstance(value, _TYPES.get(key, object))}
    if request := kept.get("request"):
        inputs = signatures["serving_default"].inputs if "serving_default" in signatures else {}
        if request.keys() != set(inputs):
            problems.append(f"request names {', '.join(request)}, not the inputs of serving_default")
            del kept["request"]
    if "signatures" in kept:
        kept["signatures"] = {}
        for name, described in manifest["signatures"].items():
            if problem := _signature_problem(described, signatures.get(name)):
                problems.append(f"signature {name}: {problem}")
            else:
                kept["signatures"][name] = described
    return kept, problems


def json_value(array: np.ndarray):
    """Encodes an array as TensorFlow Serving's JSON values."""
    array = np.asarray(array)
    if array.dtype.kind in "OSU":
        return np.vectorize(_text, otypes=[object])(array).tolist() if array.size else array.tolist()
    if array.dtype == np.float32:
        return array.astype(str).astype(np.float64).tolist()  # 0.2 stays 0.2
    return array.tolist()


def from_json(value, dtype: str) -> np.ndarray:
    """Decodes the result of `json_value` to an array of a TensorFlow dtype; strings become bytes."""
    if tf.as_dtype(dtype) != tf.string:
        return np.array(value, tf.as_dtype(dtype).as_numpy_dtype)
    value = _bytes(value)
    if isinstance(value, list):
        return np.array(value, object)
    scalar = np.empty((), object)
    scalar[()] = value
    return scalar


def describe(info: meta_graph_pb2.TensorInfo) -> dict:
    """Returns the dtype and the shape of an input or output, with None for an unknown size or rank."""
    shape = info.tensor_shape
    sizes = None if shape.unknown_rank else [None if each.size < 0 else each.size for each in shape.dim]
    return {"dtype": tf.as_dtype(info.dtype).name, "shape": sizes}


def _text(value):
    return value if isinstance(value, str) else bytes_to_json(value)


def _bytes(value):
    return [_bytes(each) for each in value] if isinstance(value, list) else bytes_from_json(value)


def _signature_problem(described, signature) -> str | None:
    if signature is None:
        return "the graph has no such signature"
    if not isinstance(described, dict):
        return "expected an object"
    batching = described.get("batching", {})
    if not isinstance(batching, dict):
        return "batching must be an object"
    if not isinstance(batching.get("rows_independent", False), bool):
        return "rows_independent must be true or false"
    padded, cropped = batching.get("padded_axes", {}), batching.get("cropped_axes", {})
    if not isinstance(padded, dict) or not all(isinstance(axes, list) for axes in padded.values()):
        return "padded_axes must be an object of lists"
    if not isinstance(cropped, dict):
        return "cropped_axes must be an object"
    for name, axis in [(name, axis) for name, axes in padded.items() for axis in axes]:
        if not _is_axis(axis, signature.inputs, name) or not _is_open(axis, signature.inputs[name]):
            return f"padded_axes: {name} has no axis {axis!r} of unknown length"
    for name, axis in cropped.items():
        if not _is_axis(axis, signature.outputs, name):
            return f"cropped_axes: {name} has no axis {axis!r}"
    return None


def _is_axis(axis, infos, name) -> bool:
    """Returns True if an input or output may have this axis, except the batch axis; its rank may be unknown."""
    if name not in infos or not isinstance(axis, int) or isinstance(axis, bool) or axis < 1:
        return False
    return infos[name].tensor_shape.unknown_rank or axis < len(infos[name].tensor_shape.dim)


def _is_open(axis, info) -> bool:
    return not info.tensor_shape.unknown_rank and info.tensor_shape.dim[axis].size < 0
