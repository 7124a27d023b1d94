"""Exported models in memory: one loaded version, and the store that follows the folders as TensorFlow Serving does."""

import logging
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, error_codes_pb2, meta_graph_pb2

logger = logging.getLogger(__name__)

_LARGEST_VERSION = 2**63 - 1
# Errors whose first line speaks of the request; others may name files or devices of this machine.
_REQUEST_ERRORS = (
    tf.errors.InvalidArgumentError,
    tf.errors.OutOfRangeError,
    tf.errors.FailedPreconditionError,
    tf.errors.DeadlineExceededError,
)


class LoadedModel:
    """One version of a SavedModel in memory, run the way TensorFlow Serving runs it.

    A v1 session fed by the signature's tensor names: less work a call than ``tf.saved_model.load``, a real deadline,
    and shapes free as in the graph. ``Session.run`` would check shapes and cast silently. Thread-safe.

    Attributes:
        name: the served name.
        version: its number.
        signatures: the SignatureDefs of the file, by name.
        input_dtypes: for each signature its inputs' names and dtypes.

    Args:
        folder: the version's folder, with ``saved_model.pb`` and ``variables/``.
        timeout_seconds: the longest a call of ``predict`` may run.

    Raises:
        Exception: whatever the loader raises for a folder that is incomplete or broken (OSError, ValueError,
            tf.errors.OpError, ...).
    """

    def __init__(self, name: str, version: int, folder: Path, timeout_seconds: float = 30.0):
        self.name, self.version = name, version
        self._timeout_seconds = timeout_seconds
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            loaded = tf.compat.v1.saved_model.loader.load(self._session, ["serve"], str(folder))
        self.signatures: Mapping[str, meta_graph_pb2.SignatureDef] = dict(loaded.signature_def)
        self.input_dtypes = {
            signature_name: {key: tf.as_dtype(info.dtype) for key, info in signature.inputs.items()}
            for signature_name, signature in self.signatures.items()
        }
        self._callables: dict = {}

    def predict(self, signature_name: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs one signature.

        Args:
            inputs: an array for every input of the signature, of the signature's dtype.

        Raises:
            tf.errors.DeadlineExceededError: it ran past the timeout; the model stays usable.
            tf.errors.OpError: the graph refused the input or failed; the message has no path and no graph detail.
        """
        signature = self.signatures[signature_name]
        try:
            call = self._callables.get(signature_name)
            if call is None:
                call = self._callables.setdefault(signature_name, self._make_callable(signature))
            values = call(*(inputs[key] for key in sorted(signature.inputs)))
        except _REQUEST_ERRORS as error:
            raise type(error)(None, None, error.message.splitlines()[0]) from None
        except tf.errors.OpError as error:
            logger.exception("signature %s of model %s, version %s failed", signature_name, self.name, self.version)
            raise type(error)(None, None, "the model failed to run; the server's log says why") from None
        # A scalar arrives as a numpy scalar or as bytes, and np.asarray(bytes) would cut zeros at their end.
        arrays = (np.array(value, dtype=object) if isinstance(value, bytes) else np.asarray(value) for value in values)
        return dict(zip(sorted(signature.outputs), arrays, strict=True))

    def _make_callable(self, signature: meta_graph_pb2.SignatureDef):
        options = config_pb2.CallableOptions(
            feed=[signature.inputs[key].name for key in sorted(signature.inputs)],
            fetch=[signature.outputs[key].name for key in sorted(signature.outputs)],
        )
        options.run_options.timeout_in_ms = int(self._timeout_seconds * 1000)
        return self._session._make_callable_from_options(options)


@dataclass(frozen=True)
class VersionStatus:
    """What TensorFlow Serving's model status tells of a version.

    Attributes:
        version: its number.
        state: START, LOADING, AVAILABLE, UNLOADING or END (unloaded, or failed to load).
        error_code: OK, or the code of the failure to load.
        error_message: "", or why it did not load, without paths.
    """

    version: int
    state: str
    error_code: str = "OK"
    error_message: str = ""


@dataclass(frozen=True)
class _Failure:
    version: int
    files: frozenset
    time: float


class ModelStore:
    """Follows one folder a model and serves its newest version, as TensorFlow Serving does by default.

    Only children whose names are whole numbers are versions. The newest is loaded before the one in use is let go, so
    a version that is broken or still being copied changes nothing; it is tried again when its files have changed, and
    otherwise once in ``retry_seconds``. Requests that still run keep the version they started with alive.

    Args:
        folders: the base folder of each served name. A name is only ever looked up here, never made into a path.
        poll_seconds: time between two looks at the folders.
        timeout_seconds: the longest one prediction may run.
        retry_seconds: time after which an unchanged broken version is tried again.

    Use it as a context manager: a daemon thread polls from entry to exit. ``polled`` is set after the first round.
    """

    def __init__(
        self,
        folders: Mapping[str, Path],
        poll_seconds: float = 1.0,
        timeout_seconds: float = 30.0,
        retry_seconds: float = 60.0,
    ):
        self.polled = threading.Event()
        self._folders = dict(folders)
        self._poll_seconds = poll_seconds
        self._timeout_seconds = timeout_seconds
        self._retry_seconds = retry_seconds
        # Written by the polling thread alone, and each value replaced whole: readers need no lock.
        self._serving: dict[str, LoadedModel] = {}
        self._statuses: dict[str, dict[int, VersionStatus]] = {name: {} for name in self._folders}
        self._failures: dict[str, _Failure] = {}
        self._unloading: list[tuple[str, int, weakref.ref]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="model-store", daemon=True)

    def __enter__(self) -> "ModelStore":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()
        self._serving.clear()

    def get(self, name: str, version: int | None = None) -> LoadedModel:
        """The version in use of a model.

        Raises:
            tf.errors.NotFoundError: there is no such name, none of its versions is loaded, or another one is.
        """
        model = self._serving.get(name)
        if model is None or version not in (None, model.version):
            request = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise tf.errors.NotFoundError(None, None, f"Servable not found for request: {request}")
        return model

    def status(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """The versions seen since the start, newest first, or the one asked for.

        Raises:
            tf.errors.NotFoundError: there is no such name or version.
        """
        statuses = self._statuses.get(name, {})
        if version is not None:
            if version not in statuses:
                raise tf.errors.NotFoundError(None, None, f"Could not find version {version} of model {name}")
            return [statuses[version]]
        if not statuses:
            raise tf.errors.NotFoundError(None, None, f"Could not find any versions of model {name}")
        return [statuses[number] for number in sorted(statuses, reverse=True)]

    def unavailable(self) -> list[str]:
        """The names of which no version is loaded."""
        return [name for name in self._folders if name not in self._serving]

    def poll(self) -> None:
        """One round over all folders; loads and unloads what has changed. Not thread-safe: the thread calls it."""
        self._unloading = [entry for entry in self._unloading if not self._has_ended(*entry)]
        for name, folder in self._folders.items():
            try:
                versions = _versions(folder)
            except OSError:  # out of reach for now: that says nothing about what is in memory
                continue
            current = self._serving.get(name)
            if not versions:
                self._unload(self._serving.pop(name, None))
            elif current is None or current.version != max(versions):
                newest = max(versions)
                if self._load(name, newest, versions[newest]):
                    self._unload(current)
        self.polled.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.poll()
            except Exception:  # the thread must outlive whatever a file system or a model can do to it
                logger.exception("a look at the model folders failed")
            self._stop.wait(self._poll_seconds)

    def _load(self, name: str, version: int, folder: Path) -> bool:
        files = _files(folder)
        failure = self._failures.get(name)
        if failure and (failure.version, failure.files) == (version, files):
            if time.monotonic() - failure.time < self._retry_seconds:
                return False
        self._set_status(name, VersionStatus(version, "LOADING"))
        try:
            model = LoadedModel(name, version, folder, self._timeout_seconds)
        except Exception as error:  # a broken file can raise anything, and must not end the polling
            code, message = _explain(error, folder, f"{name}/{version}")
            self._failures[name] = _Failure(version, files, time.monotonic())
            self._set_status(name, VersionStatus(version, "END", code, message))
            logger.warning("model %s, version %s did not load: %s", name, version, message)
            return False
        self._failures.pop(name, None)
        self._serving[name] = model
        self._set_status(name, VersionStatus(version, "AVAILABLE"))
        logger.info("model %s, version %s is loaded", name, version)
        return True

    def _unload(self, model: LoadedModel | None) -> None:
        if model is not None:
            self._set_status(model.name, VersionStatus(model.version, "UNLOADING"))
            self._unloading.append((model.name, model.version, weakref.ref(model)))

    def _has_ended(self, name: str, version: int, model: weakref.ref) -> bool:
        if model() is not None:
            return False
        if self._statuses[name][version].state == "UNLOADING":
            self._set_status(name, VersionStatus(version, "END"))
        return True

    def _set_status(self, name: str, status: VersionStatus) -> None:
        self._statuses[name] = {**self._statuses[name], status.version: status}


def _versions(folder: Path) -> dict[int, Path]:
    """The version folders under a base folder, by number. Raises OSError if it cannot be read."""
    names = {child.name: child for child in folder.iterdir() if child.is_dir()}
    numbers = {int(name): child for name, child in names.items() if name.isascii() and name.isdigit()}
    return {number: child for number, child in numbers.items() if number <= _LARGEST_VERSION}


def _files(folder: Path) -> frozenset:
    """What changes when files of a version are added, written or given other rights."""
    found = set()
    for path in folder.rglob("*"):
        try:
            stat = path.stat()
        except OSError:  # moved away while we look
            continue
        found.add((str(path), stat.st_size, stat.st_ctime_ns))
    return frozenset(found)


def _explain(error: Exception, folder: Path, name: str) -> tuple[str, str]:
    """The canonical code and the first telling line of a failure to load, with the model's name for its folder."""
    text = error.message if isinstance(error, tf.errors.OpError) else str(error)
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("Graph execution error")]
    if isinstance(error, tf.errors.OpError):
        code = error_codes_pb2.Code.Name(error.error_code)
    else:
        code = "NOT_FOUND" if isinstance(error, OSError) else "UNKNOWN"
    return code, (lines[0] if lines else type(error).__name__).replace(str(folder), name)
