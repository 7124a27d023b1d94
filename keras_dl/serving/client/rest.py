"""Client side of TensorFlow Serving's REST API, with persistent connections and fast JSON where possible."""

import json
from typing import Any
from urllib.parse import quote

import numpy as np
import orjson
import urllib3

from keras_dl.errors import UserError
from keras_dl.serving.client.errors import ClosedWithoutAnswer, Unavailable, not_reachable, refused, timed_out
from keras_dl.serving.client.values import Signature, Target, VersionStatus, read_signatures
from keras_dl.serving.json_bytes import from_json, to_json

Arrays = dict[str, np.ndarray]
_CONNECTIONS = 64  # kept open; more threads open more
_TIMED_OUT = (408, 504)
_UNAVAILABLE = 503


class RestTransport:
    """Sends requests over HTTP to a URL such as "http://127.0.0.1:8501". Thread-safe.

    A path after the port is a prefix of the API's paths.
    """

    def __init__(self, url: str):
        try:
            parsed = urllib3.util.parse_url(url)
        except urllib3.exceptions.LocationParseError:
            parsed = None
        if parsed is None or parsed.scheme not in ("http", "https") or not parsed.host or " " in parsed.host:
            raise UserError(f"expected a server's URL such as http://127.0.0.1:8501. Received: {url}")
        self._url = url.rstrip("/")
        self._pool = urllib3.PoolManager(maxsize=_CONNECTIONS, retries=False)

    def close(self) -> None:
        """Closes the connections."""
        self._pool.clear()

    def predict(
        self, target: Target, signature_name: str, inputs: Arrays, signature: Signature | None, timeout: float
    ) -> Arrays | None:
        """Returns the outputs of a signature, or None if they do not match `signature`."""
        columns = b",".join(orjson.dumps(key) + b":" + _to_json(array) for key, array in inputs.items())
        body = b'{"signature_name":' + orjson.dumps(signature_name) + b',"inputs":{' + columns + b"}}"
        outputs = self._request("outputs", target, ":predict", timeout, body)
        if signature is None:
            return None
        if len(signature.outputs) == 1:  # a single output is sent without its name
            outputs = {key: outputs for key in signature.outputs}
        elif not isinstance(outputs, dict) or outputs.keys() != signature.outputs.keys():
            return None
        try:
            return {key: _from_json(value, *signature.outputs[key]) for key, value in outputs.items()}
        except (AttributeError, TypeError, ValueError):  # the dtype differs
            return None

    def examples(self, target: Target, signature_name: str, examples: list[dict], method: str, timeout: float) -> list:
        """Returns for each example (label, score) pairs for "classify", or a number for "regress"."""
        listed = b",".join(
            b"{" + b",".join(orjson.dumps(key) + b":" + _to_json(array) for key, array in example.items()) + b"}"
            for example in examples
        )
        body = b'{"signature_name":' + orjson.dumps(signature_name) + b',"examples":[' + listed + b"]}"
        return self._request("results", target, f":{method}", timeout, body)

    def status(self, target: Target, timeout: float) -> list[VersionStatus]:
        """Returns the status of each version of a model."""
        found = self._request("model_version_status", target, "", timeout)
        return [
            VersionStatus(
                int(version["version"]),
                version["state"],
                version.get("status", {}).get("error_code", "OK"),
                version.get("status", {}).get("error_message", ""),
            )
            for version in found
        ]

    def metadata(self, target: Target, timeout: float) -> dict[str, Signature]:
        """Returns the signatures of a version."""
        described = self._request("metadata", target, "/metadata", timeout)
        return read_signatures(described["signature_def"]["signature_def"])

    def _request(self, part: str, target: Target, method: str, timeout: float, body: bytes | None = None) -> Any:
        """Sends a request, a POST if it has a body, and returns one part of the answer."""
        url = self._url + _path(target) + method
        verb, headers = "GET" if body is None else "POST", {"Content-Type": "application/json"}
        try:
            response = self._pool.request(verb, url, body=body, headers=headers, timeout=timeout)
        except urllib3.exceptions.NewConnectionError:
            raise Unavailable(not_reachable(self._url, target.name)) from None
        except urllib3.exceptions.ProtocolError:
            raise ClosedWithoutAnswer(not_reachable(self._url, target.name)) from None
        except urllib3.exceptions.TimeoutError:
            raise UserError(timed_out(self._url, timeout)) from None
        except urllib3.exceptions.HTTPError as error:
            raise UserError(f"no answer from {self._url}: {error}") from None
        if response.status in _TIMED_OUT:
            raise UserError(timed_out(self._url, timeout))
        answer = _parse(response.data)
        answer = answer if isinstance(answer, dict) else {}
        if response.status < 300 and part in answer:
            return answer[part]
        kind = f"{response.status}, {response.headers.get('Content-Type', 'nothing')}"
        problem = f"expected TensorFlow Serving's JSON from {self._url}. Received: {kind}"
        if "error" in answer:
            problem = refused(target.name, answer["error"])
        if response.status == _UNAVAILABLE:
            raise Unavailable(problem, _seconds(response.headers.get("Retry-After")))
        raise UserError(problem)


def _path(target: Target) -> str:
    path = f"/v1/models/{quote(target.name, safe='')}"
    if target.version is not None:
        return f"{path}/versions/{target.version}"
    return path if target.label is None else f"{path}/labels/{quote(target.label, safe='')}"


def _to_json(array: np.ndarray) -> bytes:
    if 0 in array.shape[:-1]:  # an empty list hides the sizes of the axes after it
        raise UserError(f"JSON cannot represent the shape {array.shape}: use a grpc:// URL")
    if array.dtype == object:
        return orjson.dumps(_strings_to_json(array.tolist()))
    if array.ndim and np.isfinite(array).all():
        try:
            return orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)
        except TypeError:  # swapped byte order, long doubles
            pass
    try:
        return json.dumps(array.tolist()).encode()  # bare NaN and Infinity, which TensorFlow Serving accepts
    except TypeError:
        raise UserError(f"JSON cannot represent {array.dtype} values: use a grpc:// URL") from None


def _strings_to_json(value: Any) -> Any:
    return [_strings_to_json(item) for item in value] if isinstance(value, list) else to_json(value)


def _from_json(value: Any, dtype: str, shape: list[int | None] | None) -> np.ndarray:
    if dtype == "string":
        strings = np.array(value, dtype=object)
        array = np.empty(strings.shape, dtype=object)
        array.flat = [from_json(string) for string in strings.flat]
    else:
        array = np.array(value, dtype=dtype)
    if array.size == 0 and shape is not None and array.ndim < len(shape):  # sizes that an empty list hides
        array = array.reshape(*array.shape, *(size or 0 for size in shape[array.ndim :]))
    return array


def _parse(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:  # NaN or invalid UTF-8, which TensorFlow Serving may write
        try:
            return json.loads(content.decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError):
            return None


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isascii() and text.isdigit() else None
