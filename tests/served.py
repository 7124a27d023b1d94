"""The embedded server in a thread of the test."""

import contextlib
import socket
import threading

import uvicorn

from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.inference import Inference
from keras_dl.serving.server.metrics import Metrics
from keras_dl.serving.server.rest.app import create_app
from keras_dl.serving.server.rest.connections import guarded_protocol
from keras_dl.serving.server.rest.limits import Limits
from keras_dl.serving.server.store import ModelStore


@contextlib.contextmanager
def running(app, limits=Limits(), port=0):  # noqa: B008
    """Serves an app on a port, by default a free one; yields its URL."""
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    # Without log_config, because configuring logging would make absl close the standard error that pytest captures.
    options = {"log_config": None, "log_level": "critical", "ws": "none", "lifespan": "off"}
    server = uvicorn.Server(uvicorn.Config(app, http=guarded_protocol(limits), **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)


@contextlib.contextmanager
def serving(name, folder):
    """Serves one model; yields the URL."""
    with ModelStore([ModelConfig(name, folder)]) as store:
        assert store.polled.wait(120) and store.unavailable() == []
        inference = Inference(store, Metrics())
        with running(create_app(inference, Limits())) as url:
            yield url
        inference.close(10)
