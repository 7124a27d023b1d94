"""The embedded server from its start to its end: REST, gRPC, what it follows, its signals and its drain."""

import asyncio
import gc
import logging
import math
import signal
import socket
import threading
import time
from urllib.parse import quote

import uvicorn

from keras_dl.serving.server.batching import Batching
from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.curl import curl_example
from keras_dl.serving.server.inference import Inference
from keras_dl.serving.server.metrics import Metrics
from keras_dl.serving.server.rest.app import create_app
from keras_dl.serving.server.rest.connections import guarded_protocol, raise_file_limit
from keras_dl.serving.server.rest.limits import Limits
from keras_dl.serving.server.source import Source
from keras_dl.serving.server.store import ModelStore

logger = logging.getLogger(__name__)

_DRAIN_SECONDS = 25.0  # less than the 30 that Kubernetes gives
_NOTICE_SECONDS = 1.0
_REFUSAL_SECONDS = 1.0  # for the answers to what did not end in time
_FOLLOW_SECONDS = 1.0


def run_embedded(
    source: Source,
    host: str,
    listener: socket.socket,
    grpc_port: int | None,
    batching: Batching | None,
    allow_unsafe: bool = False,
) -> int:
    """Serves the models of a source until SIGINT or SIGTERM, answers what has begun, and returns 0.

    Args:
        source: the models; followed while it runs.
        host: the address to listen on.
        listener: the socket of the REST API, which listens already.
        grpc_port: of gRPC, or None.
        batching: how requests are put together; None: not at all.
        allow_unsafe: also load graphs that reach out of themselves, to files or Python. Defaults to False.
    """
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it calls the loader that TF Serving uses deprecated
    gc.freeze()  # what is imported by now stays: to look through it for garbage would stop all answers for 0.3 s
    configs = source.read()
    with ModelStore(configs, allow_unsafe=allow_unsafe) as store:
        inference = Inference(store, Metrics(), batching)
        server = Server(inference)
        if grpc_port is not None:
            server.grpc_server = _grpc_server(inference, source, host, grpc_port, server.draining)
        # uvicorn sends the signal that stopped it once more; with these handlers that is not the end of the process.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))
        url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        threading.Thread(target=_announce, args=(store, url, grpc_port, server.draining), daemon=True).start()
        threading.Thread(target=follow, args=(source, configs, store, server.draining), daemon=True).start()
        server.run(sockets=[listener])
        server.finish()
    return 0


class Server(uvicorn.Server):
    """The REST API, and the common end of both APIs.

    A signal begins the end: for a second all is answered while ``/readyz`` and gRPC's health say that it is near; then
    nothing new is taken, and what has begun is answered until 25 seconds after the signal. What is still under way a
    second before that is refused in words.

    Args:
        inference: what runs the models; closed at the end.

    Attributes:
        grpc_server: that ends with it, or None.
        draining: set when the end has begun.
    """

    def __init__(self, inference: Inference):
        limits = Limits()
        self.draining = threading.Event()
        raise_file_limit()
        config = uvicorn.Config(
            create_app(inference, limits, draining=self.draining),
            http=guarded_protocol(limits),
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            backlog=512,  # asyncio accepts so many at once, before any of them is answered
            server_header=False,
        )
        super().__init__(config)
        self.grpc_server = None
        self._inference, self._ends_at = inference, math.inf
        self._grpc_ended = threading.Event()

    async def main_loop(self) -> None:
        """Serves until a signal, and for the time of notice."""
        await super().main_loop()
        self._ends_at = time.monotonic() + _DRAIN_SECONDS
        self.draining.set()
        await asyncio.sleep(_NOTICE_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Takes nothing new and waits for what has begun."""
        self._stop_grpc()
        self.config.timeout_graceful_shutdown = self._left()
        refusal = asyncio.get_running_loop().call_later(self._left() - _REFUSAL_SECONDS, self._inference.close, 0)
        await super().shutdown(sockets)
        refusal.cancel()

    def finish(self) -> None:
        """Waits for what came by gRPC, when REST has ended."""
        self._stop_grpc()
        if self.grpc_server is not None:
            self._grpc_ended.wait(max(0.0, self._left() - _REFUSAL_SECONDS))
        self._inference.close(0)
        if self.grpc_server is not None:
            self._grpc_ended.wait(self._left() + _REFUSAL_SECONDS)

    def _stop_grpc(self) -> None:
        self.draining.set()
        if self.grpc_server is not None:
            self._grpc_ended = self.grpc_server.stop(self._left())

    def _left(self) -> float:
        """Seconds until the end; none if there was no time of notice, or the user pressed Ctrl+C again."""
        return 0.0 if self.force_exit or self._ends_at == math.inf else max(0.0, self._ends_at - time.monotonic())


def follow(source: Source, configs: list[ModelConfig], store: ModelStore, stop: threading.Event) -> None:
    """Reloads the configuration of a store whenever that of the source has changed, until `stop` is set.

    One that cannot be read or is refused changes nothing and is tried again until it is mended.

    Args:
        source: looked at once a second.
        configs: what the store has.
        store: of the models.
        stop: ends it.
    """
    told = ""
    while not stop.wait(_FOLLOW_SECONDS):
        try:
            found = source.read()
            if found != configs:
                store.reload(found, labels_wait=True)
            configs, told = found, ""
        except Exception as error:  # whatever a file can hold must not end this
            if str(error) != told:
                told = str(error)
                logger.warning("the configuration is tried again: %s", told)


def _grpc_server(inference: Inference, source: Source, host: str, port: int, draining: threading.Event):
    from keras_dl.serving.server.grpc.server import create_grpc_server  # only where the extra is installed

    address = f"{f'[{host}]' if ':' in host else host}:{port}"
    server, _ = create_grpc_server(inference, address, reload_root=source.root, draining=draining)
    server.start()
    return server


def _announce(store: ModelStore, url: str, grpc_port: int | None, stop: threading.Event) -> None:
    store.polled.wait()
    if not stop.is_set():
        print(ready_text(store, url, grpc_port), flush=True)


def ready_text(store: ModelStore, url: str, grpc_port: int | None) -> str:
    """What is said when the first look at the folders is over: what answers where, and how to ask it."""
    missing = store.unavailable()
    available = [name for name in store.names() if name not in missing]
    urls = " ".join(f"{url}/v1/models/{quote(name, safe='')}" for name in available)
    lines = [f"ready: {urls or 'no model could be loaded'}"]
    lines += [curl_example(store.get(name), url) for name in available]
    lines += [f"{name} is not available yet: a complete version of it is awaited" for name in missing]
    lines.append(
        f"page:  {url}/"
        + (f"   gRPC: {url.removeprefix('http://').rpartition(':')[0]}:{grpc_port}" if grpc_port else "")
    )
    return "\n".join(lines)
