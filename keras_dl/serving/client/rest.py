"""TensorFlow Serving's REST API from a client's side: connections that stay open, JSON that is fast where it can be."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
import orjson
import urllib3

from keras_dl.errors import UserError
from keras_dl.serving.client.errors import ClosedWithoutAnswer, Unavailable, nobody_answers, refused, too_slow
from keras_dl.serving.client.values import Signature, VersionStatus, read_signatures

_CONNECTIONS = 64  # kept open; more are made when more threads ask at once
_UNAVAILABLE = 503


class RestTransport:
    """Requests over HTTP. Thread-safe.

    Args:
        url: such as "http://127.0.0.1:8501"; what follows the port stands before the API's paths.

    Raises:
        UserError: it is no such URL.
    """

    def __init__(self, url: str):
        try:
            parsed = urllib3.util.parse_url(url)
        except urllib3.exceptions.LocationParseError:
            parsed = None
        if parsed is None or parsed.scheme not in ("http", "https") or not parsed.host or " " in parsed.host:
            raise UserError(f"expected a server's URL such as http://127.0.0.1:8501 and received {url}")
        self._url = url.rstrip("/")
        self._pool = urllib3.PoolManager(maxsize=_CONNECTIONS, retries=False)

    def close(self) -> None:
        """Closes the connections."""
        self._pool.clear()

    def predict(
        self,
        name: str,
        inputs: Mapping[str, np.ndarray],
        signature_name: str,
        signature: Signature | None,
        version: int | None,
        label: str | None,
        timeout: float,
    ) -> dict[str, np.ndarray] | None:
        """The outputs of a signature; None if they are not those that `signature` tells."""
        columns = b",".join(orjson.dumps(key) + b":" + _to_json(array) for key, array in inputs.items())
        body = b'{"signature_name":' + orjson.dumps(signature_name) + b',"inputs":{' + columns + b"}}"
        outputs = self._ask("outputs", f"{_path(name, version, label)}:predict", name, timeout, body)
        if signature is None:
            return None
        if len(signature.outputs) == 1:  # a single output comes without its name
            outputs = {key: outputs for key in signature.outputs}
        elif not isinstance(outputs, dict) or outputs.keys() != signature.outputs.keys():
            return None
        try:
            return {key: _from_json(value, *signature.outputs[key]) for key, value in outputs.items()}
        except (AttributeError, TypeError, ValueError):  # another dtype
            return None

    def examples(
        self,
        method: str,
        name: str,
        examples: Sequence[Mapping[str, np.ndarray]],
        signature_name: str,
        version: int | None,
        label: str | None,
        timeout: float,
    ) -> list:
        """The results of "classify", pairs of label and score, or of "regress", numbers, for each example."""
        listed = b",".join(
            b"{" + b",".join(orjson.dumps(key) + b":" + _to_json(array) for key, array in example.items()) + b"}"
            for example in examples
        )
        body = b'{"signature_name":' + orjson.dumps(signature_name) + b',"examples":[' + listed + b"]}"
        return self._ask("results", f"{_path(name, version, label)}:{method}", name, timeout, body)

    def status(self, name: str, timeout: float) -> list[VersionStatus]:
        """The versions of a model."""
        found = self._ask("model_version_status", _path(name, None, None), name, timeout)
        return [
            VersionStatus(
                int(version["version"]),
                version["state"],
                version.get("status", {}).get("error_code", "OK"),
                version.get("status", {}).get("error_message", ""),
            )
            for version in found
        ]

    def metadata(self, name: str, version: int | None, label: str | None, timeout: float) -> dict[str, Signature]:
        """The signatures of a version."""
        path = f"{_path(name, version, label)}/metadata"
        described = self._ask("metadata", path, name, timeout)["signature_def"]["signature_def"]
        return read_signatures(described)

    def _ask(self, part: str, path: str, name: str, timeout: float, body: bytes | None = None) -> Any:
        """A part of the answer to a request; it is a POST if it has a body."""
        method, headers = "GET" if body is None else "POST", {"Content-Type": "application/json"}
        try:
            response = self._pool.request(method, self._url + path, body=body, headers=headers, timeout=timeout)
        except urllib3.exceptions.NewConnectionError:
            raise Unavailable(nobody_answers(self._url, name)) from None
        except urllib3.exceptions.ProtocolError:
            raise ClosedWithoutAnswer(nobody_answers(self._url, name)) from None
        except urllib3.exceptions.TimeoutError:
            raise UserError(too_slow(self._url, timeout)) from None
        except urllib3.exceptions.HTTPError as error:
            raise UserError(f"no answer from {self._url}: {error}") from None
        answer = _parse(response.data)
        answer = answer if isinstance(answer, dict) else {}
        if response.status < 300 and part in answer:
            return answer[part]
        kind = f"{response.status}, {response.headers.get('Content-Type', 'nothing')}"
        problem = f"expected TensorFlow Serving's JSON from {self._url} and received {kind}"
        if "error" in answer:
            problem = refused(name, answer["error"])
        if response.status == _UNAVAILABLE:
            raise Unavailable(problem, _seconds(response.headers.get("Retry-After")))
        raise UserError(problem)


def _path(name: str, version: int | None, label: str | None) -> str:
    path = f"/v1/models/{quote(name, safe='')}"
    if version is not None:
        return f"{path}/versions/{version}"
    return path if label is None else f"{path}/labels/{quote(label, safe='')}"


def _to_json(array: np.ndarray) -> bytes:
    if 0 in array.shape[:-1]:  # a list ends where nothing is in it
        raise UserError(f"JSON has no form for the shape {array.shape}: ask with a URL grpc://...")
    if array.dtype == object:
        return orjson.dumps(_texts(array.tolist()))
    if array.ndim and np.isfinite(array).all():
        try:
            return orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)
        except TypeError:  # bytes in the other order, long doubles
            pass
    try:
        return json.dumps(array.tolist()).encode()  # bare NaN and Infinity, as TensorFlow Serving reads them
    except TypeError:
        raise UserError(f"JSON has no form for values of {array.dtype}: ask with a URL grpc://...") from None


def _texts(value: Any) -> Any:
    if isinstance(value, list):
        return [_texts(item) for item in value]
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _from_json(value: Any, dtype: str, shape: list[int | None] | None) -> np.ndarray:
    if dtype == "string":
        array = np.array(value, dtype=object)
        content = np.empty(array.shape, dtype=object)
        content.flat = [
            base64.b64decode(leaf["b64"]) if isinstance(leaf, dict) else leaf.encode("utf-8", "surrogateescape")
            for leaf in array.flat
        ]
        array = content
    else:
        array = np.array(value, dtype=dtype)
    if array.size == 0 and shape is not None and array.ndim < len(shape):  # JSON ends where nothing is in a list
        array = array.reshape(*array.shape, *(size or 0 for size in shape[array.ndim :]))
    return array


def _parse(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:  # NaN, or strings that are no UTF-8, as TensorFlow Serving writes them
        try:
            return json.loads(content.decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError):
            return None


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isascii() and text.isdigit() else None
