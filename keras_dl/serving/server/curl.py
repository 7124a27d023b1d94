"""A request to a loaded model that can be pasted into a shell."""

import json
import shlex
from urllib.parse import quote

import numpy as np

_MOST_CHARACTERS = 2000
_MOST_VALUES = 64


def curl_example(model, url: str) -> str:
    """A curl command that a loaded model answers: the example request of its manifest, unless that is long.

    Without one it is made up: one element for each unknown dimension, zeros or "text" as values. Where that would be
    long, or there is nothing to call, it asks for the description of the inputs instead.

    Args:
        model: a `LoadedModel`.
        url: of the server.
    """
    base = f"{url}/v1/models/{quote(model.name, safe='')}"
    request = _of_manifest(model) or _made_up(model)
    if request is None:
        return f"curl {shlex.quote(base + '/metadata')}"
    return f"curl --data {shlex.quote(json.dumps(request))} {shlex.quote(base + ':predict')}"


def _of_manifest(model) -> dict | None:
    request = model.manifest.get("request")
    request = {"inputs": request} if isinstance(request, dict) and request else None
    return request if request and len(json.dumps(request)) <= _MOST_CHARACTERS else None


def _made_up(model) -> dict | None:
    callable_names = [name for name, dtypes in model.input_dtypes.items() if dtypes]
    signature_name = min(callable_names, key=lambda name: (name != "serving_default", name), default=None)
    if signature_name is None:
        return None
    values, count = {}, 0
    for name, info in model.signatures[signature_name].inputs.items():
        shape = [1] if info.tensor_shape.unknown_rank else [max(dim.size, 1) for dim in info.tensor_shape.dim]
        dtype = model.input_dtypes[signature_name][name]
        count += int(np.prod(shape))
        if count > _MOST_VALUES:
            return None
        fill = "text" if dtype == "string" else dtype.as_numpy_dtype(0).item()
        values[name] = np.full(shape, fill).tolist()
    return {"inputs": values} | ({} if signature_name == "serving_default" else {"signature_name": signature_name})
