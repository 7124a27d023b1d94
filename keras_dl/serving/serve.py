"""`keras-dl serve`: serves exported models with TensorFlow Serving, or with the embedded server."""

import importlib.util
import shutil
import socket

from keras_dl.errors import UserError
from keras_dl.serving.server.batching import Batching, read_batching
from keras_dl.serving.server.run import run_embedded
from keras_dl.serving.server.source import Source
from keras_dl.serving.tensorflow_serving import BINARY, run_binary, run_docker

GRPC_PORT = 8500


def serve(
    source: Source,
    host: str = "127.0.0.1",
    rest_port: int = 8501,
    grpc_port: int | None = None,
    by: str | None = None,
    batching: str | None = "",
    allow_unsafe: bool = False,
) -> int:
    """Serves until SIGINT or SIGTERM, and returns the exit code.

    Args:
        source: the models to serve.
        host: address to listen on. `tensorflow_model_server` has no such option and listens on all interfaces.
        rest_port: port of the REST API.
        grpc_port: port of the gRPC API. None (default): 8500 if the extra `grpc` is installed, else no gRPC.
        by: `"embedded"` for the embedded server, `"docker"` for TensorFlow Serving's image, None (default) for
            `tensorflow_model_server` if it is on PATH, else the embedded server.
        batching: TensorFlow Serving's BatchingParameters for all models, in protobuf's text format; "" (default) for
            the default parameters, for models whose export allows batching; None for no batching.
        allow_unsafe: whether the embedded server also loads graphs that access files or run Python. Defaults to False.

    Raises:
        UserError: there are no models, a port is in use, or Docker or the extra is missing. In these cases, no model is
        loaded.
    """
    source.read()  # raises its errors early, like the next line
    parameters = None if batching is None else read_batching(batching) if batching else Batching()
    if by == "docker":
        docker = shutil.which("docker")
        if docker is None:
            raise UserError("docker is not on PATH: install Docker, or omit --docker")
        _listen(host, rest_port, "--rest-port").close()
        return run_docker(docker, source, host, rest_port, grpc_port, batching)
    binary = None if by == "embedded" else shutil.which(BINARY)
    if binary:
        _listen(host, rest_port, "--rest-port").close()
        return run_binary(binary, source, rest_port, grpc_port, batching)
    if grpc_port is None:
        grpc_port = GRPC_PORT if _has_grpc() else None
    elif not _has_grpc():
        raise UserError("gRPC requires the extra grpc: pip install 'keras-dl[grpc]'")
    listener = _listen(host, rest_port, "--rest-port")
    if grpc_port is not None:  # gRPC itself would silently share the port with another server
        _listen(host, grpc_port, "--grpc-port").close()
    return run_embedded(source, host, listener, grpc_port, parameters, allow_unsafe)


def _has_grpc() -> bool:
    return all(importlib.util.find_spec(name) for name in ("tensorflow_serving", "grpc_health"))


def _listen(host: str, port: int, option: str) -> socket.socket:
    """Returns a listening socket, which reserves the port; clients that connect before the server is ready wait."""
    if not 1 <= port <= 65535:
        raise UserError(f"expected {option} between 1 and 65535. Received: {port}")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot listen on {host}:{port} ({reason}): choose a free port with {option}") from None
