"""What an export says of itself: `assets.extra/manifest.json`, TensorFlow Serving's place for what is no model.

::

    {"format": 1, "name": "digits", "version": 3, "exported": ISO time in UTC, "git_commit": "9d98..." | null,
     "origin": {"run_id": ..., "metric": ..., "value": ..., "fingerprint": ..., "values": {...}, "pipeline": ...},
     "signatures": {NAME: {"inputs": {NAME: {"dtype": "float32", "shape": [null, null, 8]}}, "outputs": {...},
                           "batching": {"rows_independent": true, "padded_axes": {"image": [2]},
                                        "cropped_axes": {"logits": 1}, "why": "..."}}},
     "request": {INPUT: VALUE}}

`request` is an example for `serving_default`, as TensorFlow Serving's "inputs"; bytes that are no UTF-8 are
`{"b64": ...}`. It is `{}` where there is none, or where it is larger than 1 MiB.
"""

import base64
import datetime
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

MANIFEST = Path("assets.extra") / "manifest.json"
_LARGEST_REQUEST = 2**20


def build_manifest(
    name: str,
    version: int,
    git_commit: str | None,
    origin: Mapping,
    signatures: Mapping[str, meta_graph_pb2.SignatureDef],
    batching: Mapping[str, Mapping],
    request: Mapping[str, np.ndarray],
) -> dict:
    """The manifest of an export.

    Args:
        name: of the model.
        version: int.
        git_commit: of the project's files, or None outside of a git tree.
        origin: what is known of where the model comes from, as JSON.
        signatures: of the SavedModel.
        batching: for each signature what was measured, see `keras_dl.serving.export.padding`.
        request: an example for `serving_default`.
    """
    text = {key: json_value(array) for key, array in request.items()}
    return {
        "format": 1,
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
    """Writes it into the folder of a version that is still being made."""
    (folder / MANIFEST).parent.mkdir(exist_ok=True)
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in manifest.items())
    (folder / MANIFEST).write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict:
    """The manifest of a version; `{}` for a SavedModel that keras-dl did not write, or whose manifest is broken."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return manifest if isinstance(manifest, dict) and manifest.get("format") == 1 else {}


def json_value(array: np.ndarray):
    """An array as TensorFlow Serving's JSON has it."""
    array = np.asarray(array)
    if array.dtype.kind in "OSU":
        return np.vectorize(_text, otypes=[object])(array).tolist() if array.size else array.tolist()
    if array.dtype == np.float32:
        return array.astype(str).astype(np.float64).tolist()  # 0.2 stays 0.2
    return array.tolist()


def from_json(value, dtype: str) -> np.ndarray:
    """What `json_value` wrote, as an array of a dtype of TensorFlow; strings become bytes."""
    if tf.as_dtype(dtype) != tf.string:
        return np.array(value, tf.as_dtype(dtype).as_numpy_dtype)
    value = _bytes(value)
    if isinstance(value, list):
        return np.array(value, object)
    scalar = np.empty((), object)
    scalar[()] = value
    return scalar


def describe(info: meta_graph_pb2.TensorInfo) -> dict:
    """The dtype and the shape of an input or output: None for a length, or a rank, that may be any."""
    shape = info.tensor_shape
    sizes = None if shape.unknown_rank else [None if each.size < 0 else each.size for each in shape.dim]
    return {"dtype": tf.as_dtype(info.dtype).name, "shape": sizes}


def _text(value):
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _bytes(value):
    if isinstance(value, list):
        return [_bytes(each) for each in value]
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value.encode()
