"""A client for TensorFlow Serving and the embedded server, with NumPy arrays as inputs and outputs."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_dl.errors import UserError
from keras_dl.serving.client.errors import ClosedWithoutAnswer, Unavailable
from keras_dl.serving.client.rest import RestTransport
from keras_dl.serving.client.values import Signature, Target, VersionStatus, example_arrays, input_arrays, output_array

_STATUS_SECONDS = 5.0
_FIRST_WAIT_SECONDS = 0.25
_METADATA_SECONDS = 5.0  # how long the signatures of a model are cached


class Client:
    """Sends requests to a model server over REST or gRPC, with the same results over both.

    Thread-safe; connections are kept open. A request is retried only while the server is unavailable (503, UNAVAILABLE,
    connection refused): after the time given by the server, or after 0.25, 0.5, 1, ... seconds. If the server closes
    the connection without an answer, the request is retried only once, because it may have crashed the server.

    Arrays and lists are converted to the dtypes of the signature; values that do not fit are an error. Strings may be
    str or bytes. Outputs are arrays of the signature's dtypes. Strings are returned as object arrays of str, or of
    bytes if they are not UTF-8 or the output's name ends in ``_bytes``. (Over REST, the embedded server replaces
    invalid UTF-8.)

    Args:
        url: "http://HOST:PORT" or "https://..." for REST; "grpc://HOST:PORT" for gRPC, which requires the `grpc` extra.
        timeout: seconds to wait for an answer; over REST, for each read from the connection.
        retries: maximum number of retries while the server is unavailable.

    Raises:
        UserError: the URL is invalid, or the gRPC packages are not installed.

    Example:

    ```python
    with Client("http://127.0.0.1:8501") as client:
        text = client.predict("digits_ctc", {"image": pixels})["text"][0]
    ```
    """

    def __init__(self, url: str = "http://127.0.0.1:8501", timeout: float = 30.0, retries: int = 3):
        if timeout <= 0 or retries < 0:
            raise UserError(f"expected timeout > 0 and retries >= 0. Received: timeout={timeout}, retries={retries}")
        self._transport = _grpc_transport(url) if url.startswith("grpc://") else RestTransport(url)
        self._timeout, self._retries = timeout, retries
        self._signatures: dict[Target, tuple[float, dict[str, Signature]]] = {}

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    def predict(
        self,
        name: str,
        inputs: Mapping[str, Any],
        signature_name: str = "serving_default",
        version: int | None = None,
        label: str | None = None,
    ) -> dict[str, np.ndarray]:
        """Runs a signature of a model.

        Args:
            name: model name.
            inputs: dictionary of arrays, numbers, strings, or nested lists. The key "" stands for the only input.
            signature_name: name of the signature.
            version: version number. Defaults to None: the server's choice.
            label: version label, instead of a number.

        Returns:
            Dictionary of output arrays.

        Raises:
            UserError: no server answers, the request timed out, the server refused it (with the server's message), or a
                value does not fit the signature.
        """
        target = _target(name, version, label)
        for fresh in (False, True):
            signature = self._signature(target, signature_name, fresh)
            arrays = input_arrays(name, inputs, signature)
            outputs = self._call(self._transport.predict, target, signature_name, arrays, signature)
            if outputs is not None:
                return {key: output_array(key, array) for key, array in outputs.items()}
        raise UserError(f"{name}: the outputs of the answer do not match the server's metadata of {signature_name}")

    def classify(
        self,
        name: str,
        examples: Sequence[Mapping[str, Any]],
        signature_name: str = "serving_default",
        version: int | None = None,
        label: str | None = None,
    ) -> list[list[tuple[str, float]]]:
        """Runs a signature of TensorFlow Serving's classify API.

        Args:
            examples: list of dictionaries of features; a feature is a number, a string, or a list of them.

        Returns:
            For each example a list of `(label, score)` pairs.
        """
        found = self._examples("classify", _target(name, version, label), examples, signature_name)
        return [[(text, float(np.float32(score))) for text, score in pairs] for pairs in found]

    def regress(
        self,
        name: str,
        examples: Sequence[Mapping[str, Any]],
        signature_name: str = "serving_default",
        version: int | None = None,
        label: str | None = None,
    ) -> np.ndarray:
        """Runs a signature of TensorFlow Serving's regress API.

        Args:
            examples: as in `classify`.

        Returns:
            float32 array `[examples]`.
        """
        return np.array(self._examples("regress", _target(name, version, label), examples, signature_name), np.float32)

    def status(self, name: str) -> list[VersionStatus]:
        """Returns the status of the versions that the server has or had, newest first.

        Raises:
            UserError: the server does not know the model.
        """
        return self._call(self._transport.status, Target(name))

    def metadata(self, name: str, version: int | None = None, label: str | None = None) -> dict[str, Any]:
        """Returns the inputs and outputs of a model's signatures.

        Returns:
            For each signature `{"inputs": {name: {"dtype": "float32", "shape": [None, 8]}}, "outputs": ...}`; a shape
            is None if its rank is unknown.

        Raises:
            UserError: the server does not know the model.
        """
        signatures = self._call(self._transport.metadata, _target(name, version, label))

        def described(tensors):
            return {key: {"dtype": dtype, "shape": shape} for key, (dtype, shape) in tensors.items()}

        return {
            key: {"inputs": described(signature.inputs), "outputs": described(signature.outputs)}
            for key, signature in signatures.items()
        }

    def is_available(self, name: str) -> bool:
        """Returns True if a server answers within 5 seconds, without retries, and serves a version of the model."""
        try:
            found = self._transport.status(Target(name), min(self._timeout, _STATUS_SECONDS))
        except UserError:
            return False
        return any(status.state == "AVAILABLE" for status in found)

    def _examples(self, method, target, examples, signature_name) -> list:
        arrays = example_arrays(target.name, examples)
        return self._call(self._transport.examples, target, signature_name, arrays, method)

    def _signature(self, target, signature_name, fresh) -> Signature | None:
        """Returns a signature from recent metadata of the server, or None if the server reports no such signature."""
        received, signatures = self._signatures.get(target, (0.0, {}))
        if fresh or signature_name not in signatures or time.monotonic() > received + _METADATA_SECONDS:
            signatures = self._call(self._transport.metadata, target)
            self._signatures[target] = (time.monotonic(), signatures)
        return signatures.get(signature_name)

    def _call(self, request: Callable, *arguments) -> Any:
        closed = False
        for attempt in range(self._retries):
            try:
                return request(*arguments, self._timeout)
            except Unavailable as error:
                if closed and isinstance(error, ClosedWithoutAnswer):
                    raise
                closed = closed or isinstance(error, ClosedWithoutAnswer)
                wait = _FIRST_WAIT_SECONDS * 2**attempt * random.uniform(0.8, 1.2)
                time.sleep(min(wait if error.retry_after is None else error.retry_after, self._timeout))
        return request(*arguments, self._timeout)


def _grpc_transport(url: str):
    try:
        from keras_dl.serving.client.grpc import GrpcTransport
    except ModuleNotFoundError as error:
        raise UserError(f"gRPC requires the grpc extra ({error}): pip install 'keras-dl[grpc]'") from None
    return GrpcTransport(url)


def _target(name: str, version: int | None, label: str | None) -> Target:
    if version is not None and label is not None:
        raise UserError(f"expected a version or a label, not both. Received: version {version} and label {label!r}")
    return Target(name, version, label)
