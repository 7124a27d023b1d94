"""The page at `/` for people: the models, what they take and give, and a form to ask them.

The files in `page/` are what the browser runs; they ask the server of the page alone, by TensorFlow Serving's REST API
and by `/page/models.json`. All answers forbid scripts, pictures and connections from anywhere else.
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
    "Cache-Control": "no-cache",  # kept, and asked for again by its tag
}


def page_routes(inference) -> list[Route]:
    """The routes of the page: `/`, its files under `/page/`, and `/page/models.json`.

    Args:
        inference: the `Inference` of the server, for its `store`.
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
        # Escapes carry what is no UTF-8; a NaN stays a bare word, as in TensorFlow Serving's answers.
        return _tagged(request, json.dumps(described).encode("ascii"), "application/json")

    return [Route("/", file), Route("/page/models.json", models), Route("/page/{name}", file)]


def describe_models(store) -> list[dict]:
    """What the page shows of the models of a store, as JSON.

    Args:
        store: a `ModelStore`.

    Returns:
        For each name `{"name": str, "versions": [...]}`, newest first: `version` (as text: a browser's numbers end at
        2^53), `state`, `error`, `labels`, and of a version that is available `signatures` (`{name: {"method": str,
        "inputs": {name: {"dtype": str, "shape": list or None}}, "outputs": ...}}`) and from its manifest `request`,
        `origin`, `exported` and `git_commit`, None where a foreign model has none.
    """
    return [{"name": name, "versions": _versions(store, name)} for name in store.names()]


def _versions(store, name):
    try:
        statuses = store.status(name)
        labels = store.labels(name)
    except tf.errors.NotFoundError:  # nothing was seen of it yet, or it went away meanwhile
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
    except tf.errors.OpError:  # unloaded since its state was read
        return {}
    signatures = {
        signature_name: {
            "method": re.sub(r".*/", "", signature.method_name) or "predict",
            "inputs": {key: _tensor(info) for key, info in sorted(signature.inputs.items())},
            "outputs": {key: _tensor(info) for key, info in sorted(signature.outputs.items())},
        }
        for signature_name, signature in sorted(model.signatures.items())
        if signature.inputs  # what sets the model up has none
    }
    told = {key: model.manifest.get(key) for key in ("request", "origin", "exported", "git_commit")}
    return {"signatures": signatures, **told}


def _tensor(info):
    shape = [dim.size if dim.size >= 0 else None for dim in info.tensor_shape.dim]
    return {"dtype": tf.as_dtype(info.dtype).name, "shape": None if info.tensor_shape.unknown_rank else shape}


def _tagged(request: Request, content: bytes, media_type: str) -> Response:
    """The content, or 304 to a browser that has it already: the page asks for the models every few seconds."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**_HEADERS, "ETag": tag}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=media_type)
