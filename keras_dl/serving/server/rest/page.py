"""The web page at `/`: the models, their inputs and outputs, and a form to send requests.

The files in `static/` run in the browser. They contact only the server of the page, through TensorFlow Serving's REST
API and `/page/models.json`. All responses forbid scripts, images and connections from other origins.
"""

import hashlib
import json
import re
from importlib.resources import files

import tensorflow as tf
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_FILES = {
    "index.html": "text/html",
    "style.css": "text/css",
    "page.js": "text/javascript",
    "data.js": "text/javascript",
    "fields.js": "text/javascript",
    "pad.js": "text/javascript",
    "sound.js": "text/javascript",
    "answers.js": "text/javascript",
    "plots.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-cache",  # cached, but revalidated with the ETag
}


def page_routes(inference) -> list[Route]:
    """Returns the routes of the page: `/`, its files under `/page/`, and `/page/models.json`.

    Args:
        inference: the `Inference` of the server; its `store` has the models.
    """
    folder = files("keras_dl.serving.server.rest").joinpath("static")
    contents = {name: folder.joinpath(name).read_bytes() for name in _FILES}

    async def file(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in contents:
            raise HTTPException(404)
        return _tagged(request, contents[name], _FILES[name])

    async def models(request: Request) -> Response:
        described = await run_in_threadpool(describe_models, inference.store)
        # Text that is not UTF-8 is escaped; NaN is a bare word, as in TensorFlow Serving's answers.
        return _tagged(request, json.dumps(described).encode("ascii"), "application/json")

    return [Route("/", file), Route("/page/models.json", models), Route("/page/{name}", file)]


def describe_models(store) -> list[dict]:
    """Returns a description of the models in a store for the page, as JSON.

    Args:
        store: a `ModelStore`.

    Returns:
        For each model `{"name": str, "versions": [...]}`, newest version first. Each version has `version` (a string,
        since numbers in browsers are exact only up to 2^53), `state`, `error` and `labels`. An available version also
        has `signatures` (`{name: {"method": str, "inputs": {name: {"dtype": str, "shape": list or None}}, "outputs":
        ...}}`), and `request`, `origin`, `exported` and `git_commit` from its manifest, or None without them.
    """
    return [{"name": name, "versions": _versions(store, name)} for name in store.names()]


def _versions(store, name):
    try:
        statuses = store.status(name)
        labels = store.labels(name)
    except tf.errors.NotFoundError:  # not seen yet, or removed in the meantime
        return []
    return [
        {
            "version": str(status.version),
            "state": status.state,
            "error": status.error_message,
            "labels": sorted(label for label, version in labels.items() if version == status.version),
            **(_describe(store, name, status.version) if status.state == "AVAILABLE" else {}),
        }
        for status in sorted(statuses, key=lambda status: -status.version)
    ]


def _describe(store, name, version):
    try:
        model = store.get(name, version)
    except tf.errors.OpError:  # unloaded in the meantime
        return {}
    signatures = {
        signature_name: {
            "method": re.sub(r".*/", "", signature.method_name) or "predict",
            "inputs": {key: _tensor(info) for key, info in sorted(signature.inputs.items())},
            "outputs": {key: _tensor(info) for key, info in sorted(signature.outputs.items())},
        }
        for signature_name, signature in sorted(model.signatures.items())
        if signature.inputs  # the initialization signature has none
    }
    described = {key: model.manifest.get(key) for key in ("request", "origin", "exported", "git_commit")}
    return {"signatures": signatures, **described}


def _tensor(info):
    shape = [dim.size if dim.size >= 0 else None for dim in info.tensor_shape.dim]
    return {"dtype": tf.as_dtype(info.dtype).name, "shape": None if info.tensor_shape.unknown_rank else shape}


def _tagged(request: Request, content: bytes, media_type: str) -> Response:
    """Returns the content, or 304 if the browser already has it: the page fetches the models every few seconds."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**_HEADERS, "ETag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=media_type)
