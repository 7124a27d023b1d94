"""The embedded server from its start to its end: REST, gRPC, what it follows, its signals and its drain."""

import gc
import logging
import signal
import socket
import threading

import tensorflow as tf
import uvicorn
from starlette.applications import Starlette

from keras_dl.errors import UserError
from keras_dl.serving.server.app import create_app
from keras_dl.serving.server.batching import Batching
from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.connections import guarded_protocol, raise_file_limit
from keras_dl.serving.server.curl import curl_example
from keras_dl.serving.server.inference import Inference
from keras_dl.serving.server.limits import Limits
from keras_dl.serving.server.metrics import Metrics
from keras_dl.serving.server.store import ModelStore
from keras_dl.serving.source import Source

logger = logging.getLogger(__name__)

_DRAIN_SECONDS = 30
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
    configs, stop = source.read(), threading.Event()
    with ModelStore(configs, allow_unsafe=allow_unsafe) as store:
        inference = Inference(store, Metrics(), batching)
        app, server = _rest_server(inference)
        grpc_server = None if grpc_port is None else _grpc_server(inference, source, host, grpc_port)

        def end(*_) -> None:
            app.state.draining = True
            stop.set()
            server.should_exit = True

        # uvicorn sends the signal that stopped it once more; with these handlers that is not the end of the process.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, end)
        url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        threading.Thread(target=_announce, args=(store, url, grpc_port, stop), daemon=True).start()
        threading.Thread(target=follow, args=(source, configs, store, stop), daemon=True).start()
        server.run(sockets=[listener])
        stop.set()
        if grpc_server is not None:
            grpc_server.stop(_DRAIN_SECONDS).wait()
        inference.close(_DRAIN_SECONDS)
    return 0


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
        except (UserError, tf.errors.OpError) as error:
            if str(error) != told:
                told = str(error)
                logger.warning("the configuration is tried again: %s", told)


def _rest_server(inference: Inference) -> tuple[Starlette, uvicorn.Server]:
    limits = Limits()
    raise_file_limit()
    app = create_app(inference, limits)
    config = uvicorn.Config(
        app,
        http=guarded_protocol(limits),
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
    )
    return app, uvicorn.Server(config)


def _grpc_server(inference: Inference, source: Source, host: str, port: int):
    from keras_dl.serving.server.grpc_server import create_grpc_server  # only where the extra is installed

    server, _ = create_grpc_server(inference, f"{f'[{host}]' if ':' in host else host}:{port}", reload_root=source.root)
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
    urls = " ".join(f"{url}/v1/models/{name}" for name in available)
    lines = [f"ready: {urls or 'no model could be loaded'}"]
    lines += [curl_example(store.get(name), url) for name in available]
    lines += [f"{name} is not available yet: a complete version of it is awaited" for name in missing]
    lines.append(
        f"page:  {url}/"
        + (f"   gRPC: {url.removeprefix('http://').rpartition(':')[0]}:{grpc_port}" if grpc_port else "")
    )
    return "\n".join(lines)
