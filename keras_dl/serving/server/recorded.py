"""What a manifest says, as far as it can be true of the graph beside it: anybody may have written it.

Requests rely on it, so what is wrong is left out once, at the load, and never met by a request.
"""

from collections.abc import Mapping

from tensorflow.core.protobuf import meta_graph_pb2

Signatures = Mapping[str, meta_graph_pb2.SignatureDef]
_TYPES = {"request": dict, "origin": dict, "exported": str | None, "git_commit": str | None, "signatures": dict}


def checked(manifest: dict, signatures: Signatures) -> tuple[dict, list[str]]:
    """The manifest without what cannot be true.

    Args:
        manifest: as it was read; see `keras_dl.serving.export.manifest`.
        signatures: of the graph.

    Returns:
        A manifest whose parts have their types and whose names and axes are those of the signatures; of a signature
        with a mistake in it nothing is kept, so that its requests run alone. And what was left out, in words.
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
            if problem := _problem(described, signatures.get(name)):
                problems.append(f"signature {name}: {problem}")
            else:
                kept["signatures"][name] = described
    return kept, problems


def _problem(described, signature) -> str | None:
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
            return f"padded_axes: {name} has no axis {axis!r} of any length"
    for name, axis in cropped.items():
        if not _is_axis(axis, signature.outputs, name):
            return f"cropped_axes: {name} has no axis {axis!r}"
    return None


def _is_axis(axis, infos, name) -> bool:
    """Whether an input or output may have the axis, which is not that of the rows; an output's rank may be unknown."""
    if name not in infos or not isinstance(axis, int) or isinstance(axis, bool) or axis < 1:
        return False
    return infos[name].tensor_shape.unknown_rank or axis < len(infos[name].tensor_shape.dim)


def _is_open(axis, info) -> bool:
    return not info.tensor_shape.unknown_rank and info.tensor_shape.dim[axis].size < 0
