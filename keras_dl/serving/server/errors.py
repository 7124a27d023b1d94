"""TensorFlow Serving's error codes, and their HTTP statuses and JSON form in the REST API.

Source: the table in ``model_servers/http_server.cc`` of https://github.com/tensorflow/serving.
"""

import json

import tensorflow as tf
from starlette.responses import Response
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import error_codes_pb2

_HTTP_STATUS = {  # 500 for all others
    tf.errors.INVALID_ARGUMENT: 400,
    tf.errors.FAILED_PRECONDITION: 400,
    tf.errors.OUT_OF_RANGE: 400,
    tf.errors.UNAUTHENTICATED: 401,
    tf.errors.PERMISSION_DENIED: 403,
    tf.errors.NOT_FOUND: 404,
    tf.errors.ALREADY_EXISTS: 409,
    tf.errors.ABORTED: 409,
    tf.errors.RESOURCE_EXHAUSTED: 429,
    tf.errors.CANCELLED: 499,
    tf.errors.UNIMPLEMENTED: 501,
    tf.errors.UNAVAILABLE: 503,
    tf.errors.DEADLINE_EXCEEDED: 504,
}
_RETRY_SECONDS = {429: "1", 503: "1"}


def invalid(message: str) -> tf.errors.InvalidArgumentError:
    """Returns an error with TF Serving's code INVALID_ARGUMENT (HTTP 400)."""
    return tf.errors.InvalidArgumentError(None, None, message)


def code_name(error: tf.errors.OpError) -> str:
    """Returns the canonical name of an error's code, such as "NOT_FOUND"."""
    return error_codes_pb2.Code.Name(error.error_code)


def dtype_name(dtype: tf.DType) -> str:
    """Returns a dtype's name in TensorFlow's C++ API: float, double, half, int32, ..."""
    return types_pb2.DataType.Name(dtype.as_datatype_enum).removeprefix("DT_").lower()


def operation_answer(error: tf.errors.OpError) -> Response:
    """Returns the response to a request that failed with a TensorFlow error."""
    return error_answer(_HTTP_STATUS.get(error.error_code, 500), error.message)


def error_answer(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    """Returns the response ``{"error": message}``, with a Retry-After header for 429 and 503."""
    headers = dict(headers or {})
    if status in _RETRY_SECONDS:
        headers["Retry-After"] = _RETRY_SECONDS[status]
    # Not JSONResponse: a name in a request can contain half a surrogate pair, which must be escaped.
    return Response(json.dumps({"error": message}), status, headers, media_type="application/json")
