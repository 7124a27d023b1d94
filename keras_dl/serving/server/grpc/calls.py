"""Status codes, messages and metrics of gRPC calls, as in TensorFlow Serving, without internal details.

Source: ``model_servers/grpc_status_util.cc`` and ``model_servers/server_core.cc`` (ServableRequestFromModelSpec) of
https://github.com/tensorflow/serving.
"""

import functools
import logging
import time
from collections.abc import Callable
from concurrent.futures import CancelledError

import grpc
import tensorflow as tf

from keras_dl.serving.server.engine import LoadedModel
from keras_dl.serving.server.errors import invalid

logger = logging.getLogger(__name__)

_CODES = {code.value[0]: code for code in grpc.StatusCode}  # the numbers are those of tf.errors
_LONGEST_MESSAGE = 1024  # bytes


def answered(call: Callable) -> Callable:
    """Decorates a servicer's `call(self, request, context)`, which may raise `tf.errors`.

    The servicer's `record(request, api, code, seconds)` is called after each call; `api` is the method's name.
    """

    @functools.wraps(call)
    def method(self, request, context):
        started = time.monotonic()
        answer, code, text = None, grpc.StatusCode.OK, ""
        try:
            answer = call(self, request, context)
        except tf.errors.OpError as error:
            code, text = _CODES.get(error.error_code, grpc.StatusCode.UNKNOWN), error.message
        except CancelledError:  # the deadline of the client has passed, or the client has disconnected
            late = context.time_remaining() == 0
            code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
            text = "the call was canceled"
        except Exception:
            logger.exception("%s failed", call.__name__)
            code, text = grpc.StatusCode.INTERNAL, "internal error; see the server's log for details"
        self.record(request, call.__name__, code.name, time.monotonic() - started)
        if code is not grpc.StatusCode.OK:
            context.abort(code, _cut(text))
        return answer

    return method


def find_model(store, spec) -> LoadedModel:
    """Returns the loaded model of a ModelSpec, by version, by label, or the latest one.

    Raises:
        tf.errors.InvalidArgumentError: if the name is missing or the label is unknown.
        tf.errors.NotFoundError: if there is no such model or version.
    """
    if not spec.name:
        raise invalid("ModelSpec has no name specified.")
    choice = spec.WhichOneof("version_choice")
    version = spec.version.value if choice == "version" else None
    return store.get(spec.name, version, spec.version_label if choice == "version_label" else None)


def check_model_spec(request) -> None:
    """Raises tf.errors.InvalidArgumentError if a request has no ModelSpec."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")


def _cut(text: str) -> str:
    content = text.encode(errors="replace")
    if len(content) <= _LONGEST_MESSAGE:
        return text
    return content[:_LONGEST_MESSAGE].decode(errors="ignore") + "...TRUNCATED"
