"""Loads one version of an exported model and runs it the way TensorFlow Serving does.

Loading replays the predict requests among the export's warm-up requests
(``servables/tensorflow/saved_model_warmup_util.cc`` of https://github.com/tensorflow/serving). Deliberately stricter
than TF Serving: a graph that reads or writes files on the server, calls Python or contacts other machines is not
    loaded. This check looks for known operations and is not a sandbox: serve only models that you trust.
"""

import logging
import os
import queue
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, saved_model_pb2

from keras_dl.compat.tensorflow import SavedModelLoader
from keras_dl.errors import UserError
from keras_dl.serving.export.manifest import read_manifest
from keras_dl.serving.export.traps import find_traps
from keras_dl.serving.export.warmup import WARMUP
from keras_dl.serving.messages import PredictionLog
from keras_dl.serving.server.errors import invalid
from keras_dl.serving.server.inputs import check_inputs, read_inputs
from keras_dl.serving.server.supervisor import running
from keras_dl.serving.tensors import to_array

logger = logging.getLogger(__name__)

_MOST_WARMUP_RECORDS = 1000
_LARGEST_WARMUP = 2**30  # bytes of an input that is given as one value and a shape
_CORES = os.cpu_count() or 1
_MOST_CALLS = max(4, _CORES)
_WARM_CALLS = min(4, _CORES)
# Errors whose first line is about the request; others may contain names of files or devices.
_REQUEST_ERRORS = (
    tf.errors.InvalidArgumentError,
    tf.errors.OutOfRangeError,
    tf.errors.FailedPreconditionError,
    tf.errors.DeadlineExceededError,
)


class LoadedModel:
    """One version of a SavedModel in memory.

    Uses a v1 session that is fed by tensor names: it does less work per call than ``tf.saved_model.load``, supports
    deadlines, and accepts all shapes that the graph accepts. (``Session.run`` would check shapes and cast silently.)
    Thread-safe: as many calls run at once as there are cores, at least four, each on its own thread, so that a long
    call does not delay others. Further calls wait.

    Args:
        name: the name under which the model is served.
        version: version number.
        folder: the version's folder, with ``saved_model.pb`` and ``variables/``.
        timeout_seconds: maximum duration of a call of ``predict``.
        allow_unsafe: also load graphs that access files, call Python or contact other machines.
        stop: an event that cancels the warm-up. Defaults to None.

    Attributes:
        name, version, folder: the arguments.
        signatures: the SignatureDefs of the file, by name.
        inputs: the inputs of each signature: `{signature: {name: Input}}`.
        manifest: the manifest of its export, without parts that do not match the graph, or {}.

    Raises:
        tf.errors.CancelledError: if the warm-up was canceled.
        tf.errors.PermissionDeniedError: if the graph is unsafe; the message names the operation.
        Exception: any error of the loader for an incomplete or broken folder, and of a failing warm-up request
            (OSError, ValueError, tf.errors.OpError, ...).
    """

    def __init__(
        self,
        name: str,
        version: int,
        folder: Path,
        timeout_seconds: float = 30.0,
        allow_unsafe: bool = False,
        stop: threading.Event | None = None,
    ):
        self.name, self.version, self.folder = name, version, folder
        self._timeout_seconds = timeout_seconds
        real = folder.resolve()  # resolved once: a link may be redirected during the load
        loader = SavedModelLoader(str(real))
        if not allow_unsafe:
            _check_safe(real, loader.saved_model)
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=_session_config())
        with self._session.graph.as_default():
            loaded = loader.load(self._session, ["serve"])
        self.signatures: Mapping[str, meta_graph_pb2.SignatureDef] = dict(loaded.signature_def)
        self.inputs = {key: read_inputs(signature) for key, signature in self.signatures.items()}
        self.manifest = read_manifest(real, self.signatures)
        self._callables: dict = {}
        # Last in, first out: few callers keep using the same pools; callables for the others are created on demand.
        self._idle_pools: queue.LifoQueue[int] = queue.LifoQueue()
        for pool in reversed(range(_MOST_CALLS)):
            self._idle_pools.put(pool)
        self._warm_up(real / WARMUP, stop)

    def predict(self, signature_name: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs one signature.

        Args:
            signature_name: name of the signature.
            inputs: an array for every input of the signature, with its dtype.

        Raises:
            tf.errors.DeadlineExceededError: if the call, including its wait, exceeds the timeout; the model stays
                usable.
            tf.errors.OpError: if the graph rejects the input or fails; the message contains no paths and no details of
                the graph.
        """
        try:
            pool = self._idle_pools.get(timeout=self._timeout_seconds)
        except queue.Empty:
            raise tf.errors.DeadlineExceededError(None, None, "Timed out waiting for notification") from None
        try:
            with running(f"{self.name}, version {self.version}"):
                return self._run(signature_name, inputs, pool)
        finally:
            self._idle_pools.put(pool)

    def _run(self, signature_name: str, inputs: Mapping[str, np.ndarray], pool: int) -> dict[str, np.ndarray]:
        signature = self.signatures[signature_name]
        try:
            call = self._callables.get((signature_name, pool))
            if call is None:
                call = self._callables[signature_name, pool] = self._make_callable(signature, pool)
            values = call(*(inputs[key] for key in sorted(signature.inputs)))
        except _REQUEST_ERRORS as error:
            raise type(error)(None, None, error.message.splitlines()[0]) from None
        except tf.errors.OpError as error:
            logger.exception("signature %s of model %s, version %s failed", signature_name, self.name, self.version)
            raise type(error)(None, None, "the model failed to run; see the server's log") from None
        # A scalar is a NumPy scalar or bytes, and np.asarray(bytes) would strip trailing zero bytes.
        arrays = (np.array(value, dtype=object) if isinstance(value, bytes) else np.asarray(value) for value in values)
        return dict(zip(sorted(signature.outputs), arrays, strict=True))

    def _make_callable(self, signature: meta_graph_pb2.SignatureDef, pool: int):
        options = config_pb2.CallableOptions(
            feed=[signature.inputs[key].name for key in sorted(signature.inputs)],
            fetch=[signature.outputs[key].name for key in sorted(signature.outputs)],
        )
        options.run_options.timeout_in_ms = int(self._timeout_seconds * 1000)
        options.run_options.inter_op_thread_pool = pool
        return self._session._make_callable_from_options(options)

    def _warm_up(self, file: Path, stop: threading.Event | None) -> None:
        if not file.is_file():
            return
        skipped = 0
        try:
            for count, record in enumerate(tf.compat.v1.io.tf_record_iterator(str(file)), start=1):
                if stop is not None and stop.is_set():
                    raise tf.errors.CancelledError(None, None, "the server is shutting down")
                if count > _MOST_WARMUP_RECORDS:
                    raise invalid(f"Number of warmup records exceeds the maximum ({_MOST_WARMUP_RECORDS})")
                try:
                    log = PredictionLog.FromString(record)
                except DecodeError:
                    raise invalid("Failed to parse warmup record") from None
                if log.HasField("predict_log"):
                    self._replay(log.predict_log.request)
                else:
                    skipped += 1
        except tf.errors.DataLossError as error:
            problem = f"{error.message}. Please verify your warmup data is in TFRecord format."
            raise tf.errors.DataLossError(None, None, problem) from None
        if skipped:
            message = "skipped %s warm-up requests of model %s, version %s: only predict requests are supported"
            logger.warning(message, skipped, self.name, self.version)

    def _replay(self, request) -> None:
        name = request.model_spec.signature_name or "serving_default"
        if name not in self.signatures:
            raise tf.errors.FailedPreconditionError(None, None, f'Serving signature key "{name}" not found.')
        try:
            inputs = {key: to_array(value, _LARGEST_WARMUP) for key, value in request.inputs.items()}
        except ValueError as error:
            raise invalid(f"warmup request of signature {name}: {error}") from None
        if inputs.keys() != self.inputs[name].keys():
            expected, received = (", ".join(sorted(keys)) or "none" for keys in (self.inputs[name], inputs))
            raise invalid(f"warmup request of signature {name}: expected the inputs {expected}. Received: {received}")
        check_inputs(self.inputs[name], inputs)
        # Creating a callable takes 0.1 s: create as many now as calls are likely to run at once.
        for pool in range(1 if (name, 0) in self._callables else _WARM_CALLS):
            self._run(name, inputs, pool)


def _session_config() -> config_pb2.ConfigProto:
    """One thread per operation and per call: on few cores, this takes 20% less work than TensorFlow's defaults."""
    config = config_pb2.ConfigProto(intra_op_parallelism_threads=1)
    for _ in range(_MOST_CALLS):
        config.session_inter_op_thread_pool.add(num_threads=1)
    return config


def _check_safe(folder: Path, saved: saved_model_pb2.SavedModel) -> None:
    copy = saved_model_pb2.SavedModel()
    copy.CopyFrom(saved)  # looking for a missing attribute adds it
    try:
        unsafe = [trap for trap in find_traps(folder, copy) if trap.level == "unsafe"]
    except UserError:  # incomplete or broken files: the loader raises the error with TF Serving's code
        return
    if unsafe:
        raise tf.errors.PermissionDeniedError(None, None, f"{unsafe[0].where}: {unsafe[0].what}")
