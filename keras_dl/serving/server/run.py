"""Runs the embedded server: REST and gRPC, configuration updates, signals and shutdown."""

import asyncio
import gc
import json
import logging
import math
import shlex
import signal
import socket
import threading
import time
from urllib.parse import quote

import numpy as np
import uvicorn

from keras_dl.serving.server.batching import Batching
from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.inference import Inference
from keras_dl.serving.server.metrics import Metrics
from keras_dl.serving.server.rest.app import create_app
from keras_dl.serving.server.rest.connections import guarded_protocol, raise_file_limit
from keras_dl.serving.server.rest.limits import Limits
from keras_dl.serving.server.rest.local_only import allowed_hosts
from keras_dl.serving.server.source import Source
from keras_dl.serving.server.store import ModelStore
from keras_dl.serving.server.supervisor import ready, supervise

logger = logging.getLogger(__name__)

_DRAIN_SECONDS = 25.0  # less than the 30 seconds that Kubernetes grants
_NOTICE_SECONDS = 1.0
_REFUSAL_SECONDS = 1.0  # for answering the requests that did not finish in time
_FOLLOW_SECONDS = 1.0
_LONGEST_EXAMPLE = 2000  # characters of JSON
_MOST_EXAMPLE_VALUES = 64


def run_embedded(
    source: Source,
    host: str,
    listener: socket.socket,
    grpc_port: int | None,
    batching: Batching | None,
    allow_unsafe: bool = False,
) -> int:
    """Serves the models of a source until SIGINT or SIGTERM, finishes the running requests, and returns 0.

    The server runs in a child process, which is replaced if it crashes; see `supervise`.

    Args:
        source: the models; changes to it are applied while the server runs.
        host: the address to listen on.
        listener: a listening socket for the REST API.
        grpc_port: port of the gRPC API, or None.
        batching: how requests are batched, or None for no batching.
        allow_unsafe: also load graphs that access files, call Python or contact other machines. Defaults to False.
    """
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # hides the deprecation warning of the v1 loader
    gc.freeze()  # the objects imported so far stay: scanning them would stop all answers for 0.3 s
    return supervise(lambda: _serve(source, host, listener, grpc_port, batching, allow_unsafe), listener)


def _serve(
    source: Source,
    host: str,
    listener: socket.socket,
    grpc_port: int | None,
    batching: Batching | None,
    allow_unsafe: bool,
) -> int:
    configs = source.read()
    with ModelStore(configs, allow_unsafe=allow_unsafe) as store:
        inference = Inference(store, Metrics(), batching)
        server = Server(inference, allowed_hosts(host, listener.getsockname()[0]))
        if grpc_port is not None:
            server.grpc_server = _grpc_server(inference, source, host, grpc_port, server.draining)
        # uvicorn raises the signal again after its shutdown; with these handlers it does not kill the process.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        threading.Thread(target=_announce, args=(store, url, grpc_port, server.draining), daemon=True).start()
        threading.Thread(target=follow, args=(source, configs, store, server.draining), daemon=True).start()
        server.run(sockets=[listener])
        server.finish()
    return 0


class Server(uvicorn.Server):
    """The REST API, and the shutdown of both APIs.

    A signal starts the shutdown. For one second, all requests are still accepted while ``/readyz`` and gRPC's health
    service report that the server is about to stop. Then no new requests are accepted, and running ones may finish
    until 25 seconds after the signal. Those still running one second before that are answered with an error.

    Args:
        inference: runs the models; closed at the end.
        hosts: as in `create_app`.

    Attributes:
        grpc_server: the gRPC server to shut down together with this one, or None.
        draining: an event that is set when the shutdown starts, shared with the REST application and gRPC.
    """

    def __init__(self, inference: Inference, hosts: tuple[str, ...] | None = None):
        limits = Limits()
        self.draining = threading.Event()
        raise_file_limit()
        config = uvicorn.Config(
            create_app(inference, limits, draining=self.draining, hosts=hosts),
            http=guarded_protocol(limits),
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            backlog=512,  # asyncio accepts this many connections at once before answering any
            server_header=False,
        )
        super().__init__(config)
        self.grpc_server = None
        self._inference, self._ends_at = inference, math.inf
        self._grpc_ended = threading.Event()

    async def main_loop(self) -> None:
        """Serves until a signal, and for the notice period after it."""
        await super().main_loop()
        self._ends_at = time.monotonic() + _DRAIN_SECONDS
        self.draining.set()
        await asyncio.sleep(_NOTICE_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops accepting requests and waits for the running ones."""
        self._stop_grpc()
        self.config.timeout_graceful_shutdown = self._remaining()
        refusal = asyncio.get_running_loop().call_later(self._remaining() - _REFUSAL_SECONDS, self._inference.close, 0)
        await super().shutdown(sockets)
        refusal.cancel()

    def finish(self) -> None:
        """Waits for the gRPC calls after REST has ended."""
        self._stop_grpc()
        if self.grpc_server is not None:
            self._grpc_ended.wait(max(0.0, self._remaining() - _REFUSAL_SECONDS))
        self._inference.close(0)
        if self.grpc_server is not None:
            self._grpc_ended.wait(self._remaining() + _REFUSAL_SECONDS)

    def _stop_grpc(self) -> None:
        self.draining.set()
        if self.grpc_server is not None:
            self._grpc_ended = self.grpc_server.stop(self._remaining())

    def _remaining(self) -> float:
        """Seconds until the end; 0 without a notice period or after a second Ctrl+C."""
        return 0.0 if self.force_exit or self._ends_at == math.inf else max(0.0, self._ends_at - time.monotonic())


def follow(source: Source, configs: list[ModelConfig], store: ModelStore, stop: threading.Event) -> None:
    """Reloads the configuration of a store whenever the source changes, until `stop` is set.

    A configuration that cannot be read or applied changes nothing and is retried.

    Args:
        source: read once per second.
        configs: the current configuration of the store.
        store: the models.
        stop: ends the loop.
    """
    logged = ""
    while not stop.wait(_FOLLOW_SECONDS):
        try:
            found = source.read()
            if found != configs:
                store.reload(found, labels_wait=True)
            configs, logged = found, ""
        except Exception as error:  # no content of a file may end this thread
            if str(error) != logged:
                logged = str(error)
                logger.warning("the configuration could not be applied, retrying: %s", logged)


def _grpc_server(inference: Inference, source: Source, host: str, port: int, draining: threading.Event):
    from keras_dl.serving.server.grpc.server import create_grpc_server  # needs the `grpc` extra

    address = f"{f'[{host}]' if ':' in host else host}:{port}"
    server, _ = create_grpc_server(inference, address, reload_root=source.root, draining=draining)
    server.start()
    return server


def _announce(store: ModelStore, url: str, grpc_port: int | None, stop: threading.Event) -> None:
    store.polled.wait()
    ready()
    if not stop.is_set():
        print(ready_text(store, url, grpc_port), flush=True)


def ready_text(store: ModelStore, url: str, grpc_port: int | None) -> str:
    """Returns the message printed after the first poll: URLs, an example request per model, and missing models."""
    missing = store.unavailable()
    available = [name for name in store.names() if name not in missing]
    urls = " ".join(f"{url}/v1/models/{quote(name, safe='')}" for name in available)
    lines = [f"ready: {urls or 'no model could be loaded'}"]
    lines += [curl_example(store.get(name), url) for name in available]
    lines += [f"{name} is not available yet: waiting for a complete version" for name in missing]
    lines.append(
        f"page:  {url}/"
        + (f"   gRPC: {url.removeprefix('http://').rpartition(':')[0]}:{grpc_port}" if grpc_port else "")
    )
    return "\n".join(lines)


def curl_example(model, url: str) -> str:
    """Returns a curl command for a loaded model, with the example request of its manifest unless that is long.

    Without an example, the request is generated: one element per unknown dimension, with zeros or "text" as values.
    If it would be long, or the model has no signature with inputs, the command requests the metadata instead.

    Args:
        model: a `LoadedModel`.
        url: base URL of the server.
    """
    base = f"{url}/v1/models/{quote(model.name, safe='')}"
    request = _manifest_request(model) or _generated_request(model)
    if request is None:
        return f"curl {shlex.quote(base + '/metadata')}"
    return f"curl --data {shlex.quote(json.dumps(request))} {shlex.quote(base + ':predict')}"


def _manifest_request(model) -> dict | None:
    request = model.manifest.get("request")
    request = {"inputs": request} if isinstance(request, dict) and request else None
    return request if request and len(json.dumps(request)) <= _LONGEST_EXAMPLE else None


def _generated_request(model) -> dict | None:
    callable_names = [name for name, inputs in model.inputs.items() if inputs]
    signature_name = min(callable_names, key=lambda name: (name != "serving_default", name), default=None)
    if signature_name is None:
        return None
    values, count = {}, 0
    for name, each in model.inputs[signature_name].items():
        shape = [1] if each.shape is None else [size or 1 for size in each.shape]
        count += int(np.prod(shape))
        if count > _MOST_EXAMPLE_VALUES:
            return None
        fill = "text" if each.dtype == "string" else each.dtype.as_numpy_dtype(0).item()
        values[name] = np.full(shape, fill).tolist()
    return {"inputs": values} | ({} if signature_name == "serving_default" else {"signature_name": signature_name})
