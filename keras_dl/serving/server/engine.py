"""One version of an exported model in memory, run the way TensorFlow Serving runs it."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

logger = logging.getLogger(__name__)

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
        folder: where it was loaded from.
        manifest: what its export says of it (``assets.extra/manifest.json``), or {}.

    Args:
        folder: the version's folder, with ``saved_model.pb`` and ``variables/``.
        timeout_seconds: the longest a call of ``predict`` may run.

    Raises:
        Exception: whatever the loader raises for a folder that is incomplete or broken (OSError, ValueError,
            tf.errors.OpError, ...).
    """

    def __init__(self, name: str, version: int, folder: Path, timeout_seconds: float = 30.0):
        self.name, self.version, self.folder = name, version, folder
        self._timeout_seconds = timeout_seconds
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        with self._session.graph.as_default():
            loaded = tf.compat.v1.saved_model.loader.load(self._session, ["serve"], str(folder))
        self.signatures: Mapping[str, meta_graph_pb2.SignatureDef] = dict(loaded.signature_def)
        self.input_dtypes = {
            signature_name: {key: tf.as_dtype(info.dtype) for key, info in signature.inputs.items()}
            for signature_name, signature in self.signatures.items()
        }
        self.manifest = _read_manifest(folder)
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


def _read_manifest(folder: Path) -> dict:
    file = folder / "assets.extra" / "manifest.json"
    try:
        manifest = json.loads(file.read_bytes())
    except FileNotFoundError:  # a model from elsewhere
        return {}
    except (OSError, ValueError, RecursionError) as error:
        logger.warning("%s cannot be read and is ignored: %s", file, error)
        return {}
    if not isinstance(manifest, dict):
        logger.warning("%s is ignored: expected an object and received %s", file, type(manifest).__name__)
        return {}
    return manifest
