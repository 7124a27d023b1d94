"""TensorFlow Serving's REST API (https://www.tensorflow.org/tfx/serving/api_rest) as an ASGI application.

Routes: ``POST /v1/models/<name>[/versions/<v>|/labels/<l>]:predict`` (``:classify``, ``:regress``), ``GET
/v1/models/<name>[/versions/<v>][/metadata]``; the metrics for Prometheus; for supervisors ``/healthz`` (the process
responds) and ``/readyz`` (every model is available, and the server is not shutting down); ``/openapi.json``; ``/``, a
web page. Every error is ``{"error": "..."}``, under ``/v1/`` with TF Serving's message and status, without tracebacks
or paths.

Statuses, messages and the order of checks follow ``model_servers/http_rest_api_handler.cc`` and ``http_server.cc`` of
https://github.com/tensorflow/serving.
"""

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import tensorflow as tf
from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route

from keras_dl.serving.server.errors import code_name, error_answer, operation_answer
from keras_dl.serving.server.examples import classifications, example_inputs, regressions
from keras_dl.serving.server.inference import Inference
from keras_dl.serving.server.metrics import METRICS_PATH
from keras_dl.serving.server.rest.codec import Document, decode_predict, encode_predict, read_document
from keras_dl.serving.server.rest.connections import WAITING
from keras_dl.serving.server.rest.example_codec import decode_examples, encode_classifications, encode_regressions
from keras_dl.serving.server.rest.limits import SMALL, ByteBudget, Limits, check_parsed_size, read_body
from keras_dl.serving.server.rest.local_only import LocalOnly
from keras_dl.serving.server.rest.mailbox import wrap_future
from keras_dl.serving.server.rest.openapi import describe_api
from keras_dl.serving.server.rest.page import page_routes
from keras_dl.serving.server.rest.targets import Target, read_target

logger = logging.getLogger(__name__)

_API = {"predict": "Predict", "classify": "Classify", "regress": "Regress", "metadata": "GetModelMetadata"}
_LARGE_THREADS = 2  # for large bodies: each needs much memory and holds the GIL most of the time
_LARGE = 2**18  # bytes; reading or writing more on the event loop would delay other requests
_CODES = {408: "DEADLINE_EXCEEDED", 413: "RESOURCE_EXHAUSTED"}
_DEFAULT_LIMITS = Limits()
_INTERNAL = "internal error; see the server's log for details"


def create_app(
    inference: Inference,
    limits: Limits = _DEFAULT_LIMITS,
    monitoring_path: str = METRICS_PATH,
    draining: threading.Event | None = None,
    hosts: tuple[str, ...] | None = None,
) -> Starlette:
    """Builds the application for the models of an `Inference`, which the caller starts and stops.

    Args:
        inference: runs the models; has the store and the metrics.
        limits: limits of requests.
        monitoring_path: the path of the metrics for Prometheus.
        draining: set by the caller shortly before it stops the server: from then on ``/readyz`` returns 503. None
            (default): a new event. Available as ``app.state.draining``.
        hosts: the only hosts that the `Host` and `Origin` headers may name. None (default): any.
    """
    rest = _Rest(inference, limits)
    metrics = inference.metrics

    async def healthz(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        if request.app.state.draining.is_set():
            raise HTTPException(503, "the server is shutting down")
        if names := inference.store.unavailable():
            raise HTTPException(503, f"not available: {', '.join(names)}")
        return JSONResponse({"status": "ready"})

    async def openapi(request: Request) -> Response:
        return JSONResponse(describe_api(inference.store, monitoring_path))

    async def monitoring(request: Request) -> Response:
        return Response(metrics.render(), media_type="text/plain")

    app = Starlette(
        routes=[
            _RestRoute("/v1/", rest.answer),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route(monitoring_path, monitoring),
            Route("/openapi.json", openapi),
            *page_routes(inference),
        ],
        middleware=[] if hosts is None else [Middleware(LocalOnly, hosts)],
        exception_handlers={
            HTTPException: lambda request, error: error_answer(error.status_code, error.detail, error.headers),
            # The traceback is only logged.
            Exception: lambda request, error: error_answer(500, _INTERNAL),
        },
    )
    app.router.redirect_slashes = False
    app.state.draining = draining or threading.Event()
    return app


class _RestRoute(Route):
    """Matches raw paths that begin with /v1/: encoded slashes and line endings stay part of a name."""

    def __init__(self, path: str, endpoint: Callable):
        super().__init__(path, endpoint)
        self.methods = None  # the endpoint rejects wrong methods

    def matches(self, scope) -> tuple[Match, dict]:
        if scope["type"] == "http" and scope["raw_path"][:4].lower() == b"/v1/":
            return Match.FULL, {"endpoint": self.endpoint, "path_params": {}}
        return Match.NONE, {}


class _Rest:
    """Answers everything under /v1/."""

    def __init__(self, inference: Inference, limits: Limits):
        self._inference, self._store, self._limits = inference, inference.store, limits
        self._budget = ByteBudget(limits.total_bytes)
        self._executor = ThreadPoolExecutor(_LARGE_THREADS, "large-body")

    async def answer(self, request: Request) -> Response:
        started, name, api, code = time.perf_counter(), "", "", "OK"
        try:
            if request.method == "OPTIONS":
                _check_preflight(request)
                return Response()
            target = read_target(request.method, _path(request))
            name, api = target.name, _API.get(target.action, "")
            return await self._dispatch(request, target)
        except tf.errors.OpError as error:
            code = code_name(error)
            return operation_answer(error)
        except HTTPException as error:
            code = _CODES.get(error.status_code, "INVALID_ARGUMENT")
            return error_answer(error.status_code, error.detail, error.headers)
        except asyncio.CancelledError:
            code = "CANCELLED"
            if not request.app.state.draining.is_set():
                raise
            # The drain period is over. uvicorn would send its own message.
            return error_answer(503, "the server is shutting down", {"Connection": "close"})
        except ClientDisconnect:
            code = "CANCELLED"
            return error_answer(499, "the client disconnected")
        except Exception:
            code = "INTERNAL"
            logger.exception("%s %s failed", request.method, _path(request))
            return error_answer(500, _INTERNAL)
        finally:
            self._inference.metrics.request(name, api, "REST", code, time.perf_counter() - started)

    async def _dispatch(self, request: Request, target: Target) -> Response:
        if target.action == "status":  # a label is ignored, as in TF Serving
            statuses = self._store.status(target.name, target.version)
            return JSONResponse({"model_version_status": [_status(status) for status in statuses]})
        if target.action == "metadata":
            return JSONResponse(_metadata(self._get(target)))
        with self._budget.of_request() as take:
            limits = self._limits
            body = await read_body(request, limits, take, self._executor)
            if len(body) > SMALL:
                await self._read(len(body), check_parsed_size, body, limits, take)
            document = await self._read(len(body), read_document, body)
            method = self._predict if target.action == "predict" else self._examples
            return Response(await method(request, target, document, len(body)), media_type="application/json")

    async def _predict(self, request: Request, target: Target, document: Document, size: int) -> bytes:
        model = self._get(target)
        decoded = await self._read(size, decode_predict, document, model.inputs)
        outputs = await _answer(request, self._inference.submit(model, decoded.signature_name, decoded.inputs))
        return await _run(_bytes(outputs), encode_predict, outputs, decoded.rows)

    async def _examples(self, request: Request, target: Target, document: Document, size: int) -> bytes:
        examples = await self._read(size, decode_examples, document.members)
        model = self._get(target)
        signature_name, inputs = example_inputs(model, document.signature_name, examples, target.action)
        api = _API[target.action]
        outputs = await _answer(request, self._inference.submit(model, signature_name, inputs, api=api))
        if target.action == "classify":
            results = classifications(outputs, len(examples))
            return await _run(_bytes(outputs), encode_classifications, results)
        return encode_regressions(regressions(outputs, len(examples)))

    async def _read(self, size: int, function: Callable, *arguments) -> Any:
        return await _run(size, function, *arguments, executor=self._executor)

    def _get(self, target: Target):
        return self._store.get(target.name, target.version, target.label)


async def _run(size: int, function: Callable, *arguments, executor: Executor | None = None) -> Any:
    """Calls a function, on another thread if its input or output is large."""
    if size > _LARGE:
        return await asyncio.get_running_loop().run_in_executor(executor, function, *arguments)
    return function(*arguments)


async def _answer(request: Request, future: Future) -> dict:
    """Waits for the answer of a model; the run is canceled if the client disconnects."""
    waiting, others = wrap_future(future), request.scope.get(WAITING, set())
    others.add(waiting)
    try:
        return await waiting
    except asyncio.CancelledError:
        if waiting in others:
            raise
        raise ClientDisconnect from None
    finally:
        others.discard(waiting)


def _bytes(outputs: dict) -> int:
    return sum(array.nbytes for array in outputs.values())


def _path(request: Request) -> str:
    query = request.scope["query_string"]
    return (request.scope["raw_path"] + (b"?" + query if query else b"")).decode("latin-1")


def _check_preflight(request: Request) -> None:
    if not re.search("https?://", request.headers.get("origin", "")):
        raise tf.errors.FailedPreconditionError(None, None, "Origin header is missing in CORS preflight")


def _metadata(model) -> dict:
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


def _status(status) -> dict:
    return {
        "version": str(status.version),
        "state": status.state,
        "status": {"error_code": status.error_code, "error_message": status.error_message},
    }
