"""A client of TensorFlow Serving and of our server: arrays and strings in, arrays and strings out."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_dl.errors import UserError
from keras_dl.serving.client.errors import ClosedWithoutAnswer, Unavailable
from keras_dl.serving.client.rest import RestTransport
from keras_dl.serving.client.values import (
    Signature,
    VersionStatus,
    example_arrays,
    input_arrays,
    output_array,
)

_STATUS_SECONDS = 5.0
_FIRST_WAIT_SECONDS = 0.25
_METADATA_SECONDS = 5.0  # how long the signatures of a model are taken for known


class Client:
    """Asks a model server, over REST or gRPC, and answers the same over both.

    Thread-safe; connections are kept open. A server that is not there for the moment (503, UNAVAILABLE, connection
    refused) is asked again, after the time it says or after 0.25, 0.5, 1, ... seconds; nothing else is. One that closes
    the connection without an answer is asked once more: it may have died of the request.

    Arrays and lists are sent in the dtype that the signature tells; what does not fit into it is refused. Strings may
    be str or bytes. Outputs are arrays of the signature's dtypes; strings are object arrays of str, but of bytes where
    they are no UTF-8 or the output's name ends in ``_bytes``. (Over REST our own server has replaced what is no UTF-8.)

    Args:
        url: "http://HOST:PORT" or "https://...", for REST; "grpc://HOST:PORT" for gRPC, which needs the extra `grpc`.
        timeout: seconds to wait for an answer, or over REST for each part of it.
        retries: how often a request is sent again to a server that is not there for the moment.

    Raises:
        UserError: the URL is none, or the packages of gRPC are missing.

    Example:

    ```python
    with Client("http://127.0.0.1:8501") as client:
        text = client.predict("digits_ctc", {"image": pixels})["text"][0]
    ```
    """

    def __init__(self, url: str = "http://127.0.0.1:8501", timeout: float = 30.0, retries: int = 3):
        if timeout <= 0 or retries < 0:
            raise UserError(f"expected a timeout above 0 and retries from 0. Received: {timeout}, {retries}")
        self._transport = _grpc_transport(url) if url.startswith("grpc://") else RestTransport(url)
        self._timeout, self._retries = timeout, retries
        self._known: dict[tuple, tuple[float, dict[str, Signature]]] = {}

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
            name: of the model.
            inputs: for each input an array, a number, a string, or nested lists. The key "" stands for the only input.
            signature_name: which signature.
            version: which version. Defaults to None: the one that the server takes.
            label: of a version, instead of its number.

        Returns:
            For each output an array.

        Raises:
            UserError: no server answers, or it refuses the request, in its own words; or a value does not fit.
        """
        _check_choice(version, label)
        for fresh in (False, True):
            signature = self._signature(name, signature_name, version, label, fresh)
            arrays = input_arrays(name, inputs, signature)
            outputs = self._ask(
                self._transport.predict, name, arrays, signature_name, signature, version, label, self._timeout
            )
            if outputs is not None:
                return {key: output_array(key, array) for key, array in outputs.items()}
        raise UserError(f"{name}: the answer has other outputs than the server tells of signature {signature_name}")

    def classify(
        self,
        name: str,
        examples: Sequence[Mapping[str, Any]],
        signature_name: str = "serving_default",
        version: int | None = None,
        label: str | None = None,
    ) -> list[list[tuple[str, float]]]:
        """Labels and scores of examples, by a signature of TensorFlow Serving's classify API.

        Args:
            examples: for each example its features: a number, a string, or a list of them.

        Returns:
            For each example its pairs of label and score.
        """
        found = self._examples("classify", name, examples, signature_name, version, label)
        return [[(text, float(np.float32(score))) for text, score in pairs] for pairs in found]

    def regress(
        self,
        name: str,
        examples: Sequence[Mapping[str, Any]],
        signature_name: str = "serving_default",
        version: int | None = None,
        label: str | None = None,
    ) -> np.ndarray:
        """One number for each example, by a signature of TensorFlow Serving's regress API.

        Args:
            examples: as in `classify`.

        Returns:
            A float32 array `[examples]`.
        """
        return np.array(self._examples("regress", name, examples, signature_name, version, label), np.float32)

    def status(self, name: str) -> list[VersionStatus]:
        """The versions of a model that the server has or had, newest first.

        Raises:
            UserError: there is no such model.
        """
        return self._ask(self._transport.status, name, self._timeout)

    def metadata(self, name: str, version: int | None = None, label: str | None = None) -> dict[str, Any]:
        """What a model takes and gives.

        Returns:
            For each signature `{"inputs": {name: {"dtype": "float32", "shape": [None, 8]}}, "outputs": ...}`; a shape
            is None where its rank is open.

        Raises:
            UserError: there is no such model.
        """
        _check_choice(version, label)
        signatures = self._ask(self._transport.metadata, name, version, label, self._timeout)

        def described(tensors):
            return {key: {"dtype": dtype, "shape": shape} for key, (dtype, shape) in tensors.items()}

        return {
            key: {"inputs": described(signature.inputs), "outputs": described(signature.outputs)}
            for key, signature in signatures.items()
        }

    def is_available(self, name: str) -> bool:
        """Whether a server answers, within 5 seconds and at the first attempt, and has a version of the model."""
        try:
            found = self._transport.status(name, min(self._timeout, _STATUS_SECONDS))
        except UserError:
            return False
        return any(status.state == "AVAILABLE" for status in found)

    def _examples(self, method, name, examples, signature_name, version, label) -> list:
        _check_choice(version, label)
        arrays = example_arrays(name, examples)
        return self._ask(self._transport.examples, method, name, arrays, signature_name, version, label, self._timeout)

    def _signature(
        self, name: str, signature_name: str, version: int | None, label: str | None, fresh: bool
    ) -> Signature | None:
        """A signature as the server told it not long ago; None if it tells of none with that name."""
        key = (name, version, label)
        told, signatures = self._known.get(key, (0.0, {}))
        if fresh or signature_name not in signatures or time.monotonic() > told + _METADATA_SECONDS:
            signatures = self._ask(self._transport.metadata, name, version, label, self._timeout)
            self._known[key] = (time.monotonic(), signatures)
        return signatures.get(signature_name)

    def _ask(self, ask: Callable, *arguments) -> Any:
        closed = False
        for attempt in range(self._retries):
            try:
                return ask(*arguments)
            except Unavailable as error:
                if closed and isinstance(error, ClosedWithoutAnswer):
                    raise
                closed = closed or isinstance(error, ClosedWithoutAnswer)
                wait = _FIRST_WAIT_SECONDS * 2**attempt * random.uniform(0.8, 1.2)
                time.sleep(min(wait if error.retry_after is None else error.retry_after, self._timeout))
        return ask(*arguments)


def _grpc_transport(url: str):
    try:
        from keras_dl.serving.client.grpc import GrpcTransport
    except ModuleNotFoundError as error:
        raise UserError(f"expected the packages of gRPC ({error}): pip install 'keras-dl[grpc]'") from None
    return GrpcTransport(url)


def _check_choice(version: int | None, label: str | None) -> None:
    if version is not None and label is not None:
        raise UserError(f"expected a version or a label. Received: version {version} and label {label!r}")
