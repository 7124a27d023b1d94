"""A client of TensorFlow Serving's REST API: arrays and strings in, arrays and strings out; needs no TensorFlow."""

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np
import requests

from keras_dl.errors import UserError

_STATUS_TIMEOUT_SECONDS = 5.0


def predict(
    url: str,
    name: str,
    inputs: Mapping[str, Any],
    signature_name: str = "serving_default",
    version: int | None = None,
    timeout: float = 30.0,
) -> dict[str, Any]:
    """Asks a served model for its outputs, in TF Serving's column format.

    Args:
        url: the server, such as ``http://127.0.0.1:8501``.
        name: the model's served name.
        inputs: for each input of the signature an array, nested lists, a string or bytes. Bytes, also inside arrays
            and lists, are sent in base64. The key "" stands for the only input.
        signature_name: the signature to run.
        version: the version to ask; by default the one the server has in use.
        timeout: seconds to wait for the connection, and again for each part of the answer.

    Returns:
        For each output its values: numbers and truth values as an array (int64, float64 or bool), strings as str or
        nested lists of str, and what the server sends in base64 as bytes or nested lists of bytes.

    Raises:
        UserError: no server answers at ``url``, or it refuses the request; the message has the server's own words.
    """
    model = _model_url(url, name, version)
    values = {key: _to_json(value) for key, value in inputs.items()}
    request = {"signature_name": signature_name, "inputs": values.get("", values)}
    # Not requests' own json=, which refuses NaN; TF Serving reads it.
    outputs = _ask("POST", f"{model}:predict", name, timeout, data=json.dumps(request).encode())["outputs"]
    if not isinstance(outputs, dict) or outputs.keys() == {"b64"}:  # a single output comes without its name
        metadata = _ask("GET", f"{model}/metadata", name, timeout)["metadata"]["signature_def"]["signature_def"]
        (output_name,) = metadata[signature_name]["outputs"]
        outputs = {output_name: outputs}
    return {key: _from_json(value) for key, value in outputs.items()}


def is_serving(url: str, name: str) -> bool:
    """Whether a server answers at ``url`` and has a version of the model available."""
    try:
        answer = _ask("GET", _model_url(url, name, None), name, _STATUS_TIMEOUT_SECONDS)
    except UserError:
        return False
    return any(status["state"] == "AVAILABLE" for status in answer.get("model_version_status", ()))


def _model_url(url: str, name: str, version: int | None) -> str:
    base = f"{url.rstrip('/')}/v1/models/{quote(name, safe='')}"
    return base if version is None else f"{base}/versions/{version}"


def _ask(method: str, url: str, name: str, timeout: float, data: bytes | None = None) -> dict[str, Any]:
    try:
        response = requests.request(method, url, data=data, timeout=timeout)
    except requests.ConnectionError:
        raise UserError(f"no server answers at {url}: start one with `keras-dl serve {name}`") from None
    except requests.Timeout:
        raise UserError(f"expected an answer from {url} within {timeout} seconds and received none") from None
    except requests.RequestException as error:
        raise UserError(f"expected a server's URL such as http://127.0.0.1:8501 and received {url}: {error}") from None
    try:
        answer = json.loads(response.content)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        kind = response.headers.get("Content-Type", "nothing")
        raise UserError(f"expected TensorFlow Serving's JSON from {url} and received {response.status_code}, {kind}")
    if not response.ok:
        raise UserError(f"{name}: the server refused the request: {answer.get('error', response.reason)}")
    return answer


def _to_json(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    return value


def _from_json(value: Any) -> Any:
    leaf = value
    while isinstance(leaf, list) and leaf:
        leaf = leaf[0]
    if isinstance(leaf, str | dict):
        return _strings(value)
    return np.asarray(value)


def _strings(value: Any) -> Any:
    if isinstance(value, list):
        return [_strings(item) for item in value]
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value
