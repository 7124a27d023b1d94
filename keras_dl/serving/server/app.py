"""TensorFlow Serving's REST API (https://www.tensorflow.org/tfx/serving/api_rest) as an ASGI application.

Routes: ``POST /v1/models/<name>[/versions/<v>]:predict``, ``GET /v1/models/<name>[/versions/<v>][/metadata]``, and for
supervisors ``/healthz`` (the process answers) and ``/readyz`` (every model is available). Every error is
``{"error": "..."}`` with TF Serving's text and status; none holds a traceback or a path.
"""

import json
import re
from dataclasses import dataclass
from urllib.parse import unquote

import tensorflow as tf
from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from keras_dl.serving.server.codec import decode_predict, encode_predict, invalid
from keras_dl.serving.server.engine import LoadedModel
from keras_dl.serving.server.store import ModelStore, VersionStatus

_MODEL = r"/v1/models(?:/(?P<name>[^/:]+))?(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST_PATH = re.compile(_MODEL + r":(?P<method>classify|regress|predict)", re.IGNORECASE | re.ASCII)
_GET_PATH = re.compile(_MODEL + r"(?P<metadata>/metadata)?", re.IGNORECASE | re.ASCII)
_LARGEST_VERSION = 2**63 - 1
_ANY_METHOD = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

# TF Serving's own table (model_servers/http_server.cc); what is not here is 500.
_HTTP_STATUS = {
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


def create_app(store: ModelStore, largest_body: int = 64 * 2**20) -> Starlette:
    """The application over a store of models; starting and stopping the store is the caller's.

    Args:
        store: where models are looked up.
        largest_body: bytes of a request's body above which the answer is 413.
    """

    async def model(request: Request) -> Response:
        # The path as it was sent: names are percent-decoded after matching, so an encoded slash stays in its name.
        target = _target(request.method, request.scope["raw_path"].decode("latin-1"))
        if request.method == "POST":
            body = await _read(request, largest_body)
            if target.method != "predict":
                problem = f"{target.method} is not served here: use predict, or TensorFlow Serving itself"
                raise tf.errors.UnimplementedError(None, None, problem)
            answer = await run_in_threadpool(_predict, _get(store, target), body)
            return Response(answer, media_type="application/json")
        if target.metadata:
            return JSONResponse(_metadata(_get(store, target)))
        statuses = store.status(target.name, target.version)
        return JSONResponse({"model_version_status": [_status(status) for status in statuses]})

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        if names := store.unavailable():
            raise HTTPException(503, f"not available: {', '.join(names)}")
        return JSONResponse({"status": "ready"})

    app = Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/v1/{path:path}", model, methods=_ANY_METHOD),
        ],
        exception_handlers={
            tf.errors.OpError: _tensorflow_error,
            HTTPException: lambda request, error: _error(error.status_code, error.detail),
            # The server's log gets the traceback, the client only this.
            Exception: lambda request, error: _error(500, "internal error; the server's log has the details"),
        },
    )
    app.router.redirect_slashes = False
    return app


@dataclass(frozen=True)
class _Target:
    """What the path of a request names."""

    name: str
    version: int | None
    label: str | None
    method: str | None
    metadata: bool


def _target(http_method: str, path: str) -> _Target:
    pattern = {"POST": _POST_PATH, "GET": _GET_PATH}.get(http_method)
    match = pattern.fullmatch(path) if pattern else None
    if match is None or (http_method == "POST" and not match["name"]):
        raise invalid(f"Malformed request: {http_method} {path}")
    parts = match.groupdict()
    version = parts["version"]
    if version and (len(version) > 19 or int(version) > _LARGEST_VERSION):
        raise invalid(f"Failed to convert version: {version} to numeric.")
    if not parts["name"]:
        raise invalid("Missing model name in request.")
    return _Target(
        name=unquote(parts["name"]),
        version=int(version) if version else None,
        label=unquote(parts["label"]) if parts["label"] else None,
        method=parts.get("method", "").lower() or None,
        metadata=bool(parts.get("metadata")),
    )


def _get(store: ModelStore, target: _Target) -> LoadedModel:
    return store.get(target.name, target.version, target.label)


async def _read(request: Request, largest: int) -> bytes:
    """The body; one that is too large is read to its end but not kept, or its sender would not see the answer."""
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size <= largest:
            pieces.append(piece)
        else:
            pieces.clear()
    if size > largest:
        raise HTTPException(413, f"expected a body of at most {largest} bytes and received {size}")
    return b"".join(pieces)


def _predict(model: LoadedModel, body: bytes) -> bytes:
    request = decode_predict(body, model.input_dtypes)
    return encode_predict(model.predict(request.signature_name, request.inputs), request.rows)


def _metadata(model: LoadedModel) -> dict:
    signatures = {
        name: json_format.MessageToDict(
            signature, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for name, signature in model.signatures.items()
    }
    return {
        "model_spec": {"name": model.name, "signature_name": "", "version": str(model.version)},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def _status(status: VersionStatus) -> dict:
    return {
        "version": str(status.version),
        "state": status.state,
        "status": {"error_code": status.error_code, "error_message": status.error_message},
    }


async def _tensorflow_error(request: Request, error: tf.errors.OpError) -> Response:
    return _error(_HTTP_STATUS.get(error.error_code, 500), error.message)


def _error(status: int, message: str) -> Response:
    # Not JSONResponse: a name from a request can hold half a surrogate pair, which only an escape can carry.
    return Response(json.dumps({"error": message}), status, media_type="application/json")
