"""`keras-dl serve`: serves exported models with TensorFlow Serving (program or image), or with the embedded server."""

import dataclasses
import importlib.util
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from keras_dl.durable import write_bytes
from keras_dl.errors import UserError
from keras_dl.serving.configuration import (
    BATCHING,
    CONTAINER_MODELS,
    IMAGE,
    MONITORING,
    batching_parameters,
    model_config_text,
    monitoring_config,
    server_flags,
)
from keras_dl.serving.server.batching import Batching, read_batching
from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.run import run_embedded
from keras_dl.serving.server.source import LIVE, Source

GRPC_PORT = 8500
BINARY = "tensorflow_model_server"
_FOLDER = "/configuration"
_POLL_SECONDS = 1.0


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
        grpc_port: port of the gRPC API. None (default): 8500 if the `grpc` extra is installed, else no gRPC.
        by: `"embedded"` for the embedded server, `"docker"` for TensorFlow Serving's image, None (default) for
            `tensorflow_model_server` if it is on PATH, else the embedded server.
        batching: TensorFlow Serving's BatchingParameters for all models, in protobuf's text format; "" (default) for
            the default parameters, for models whose export allows batching; None for no batching.
        allow_unsafe: whether the embedded server also loads graphs that access files or run Python. Defaults to False.

    Raises:
        UserError: before any model is loaded, if there are no models, a port is in use, or Docker or the `grpc` extra
            is missing.
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
        raise UserError("gRPC requires the grpc extra: pip install 'keras-dl[grpc]'")
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


def run_binary(binary: str, source: Source, rest_port: int, grpc_port: int | None, batching: str | None) -> int:
    """Runs the program on the models of a source until it ends or is stopped; returns its exit code (see `serve`).

    The program listens on all interfaces and has no option to change that. It always serves gRPC; without `grpc_port`,
    it uses a Unix socket in a temporary folder. Changes to the source are applied while it runs.
    """
    with tempfile.TemporaryDirectory(prefix="keras-dl-serve-") as temporary:
        grpc = [f"--port={grpc_port or 0}"]
        if grpc_port is None:
            grpc.append(f"--grpc_socket_path={Path(temporary, 'grpc.sock')}")
        flags = server_flags(f"{temporary}/{LIVE}", temporary, batching is not None, bool(batching))
        command = [binary, f"--rest_api_port={rest_port}", *grpc, *flags]
        print(
            f"{shlex.join(command)}\nIt listens on all interfaces, because it has no option for an address.", flush=True
        )
        return _run(command, source, Path(temporary), lambda configs: configs, batching)


def run_docker(
    docker: str, source: Source, host: str, rest_port: int, grpc_port: int | None, batching: str | None
) -> int:
    """Runs the image on the models of a source until it ends or is stopped; returns its exit code (see `serve`).

    The models' folders are mounted read-only. Later changes to the source are applied if their folders are mounted.
    """
    with tempfile.TemporaryDirectory(prefix="keras-dl-serve-") as temporary:
        command = docker_command(docker, source.read(), temporary, host, rest_port, grpc_port)
        command += server_flags(f"{_FOLDER}/{LIVE}", _FOLDER, batching is not None, bool(batching))
        print(shlex.join(command), flush=True)
        return _run(command, source, Path(temporary), _in_container, batching)


def docker_command(
    docker: str, configs: Sequence[ModelConfig], folder: str, host: str, rest_port: int, grpc_port: int | None
) -> list[str]:
    """Returns the `docker run` command up to the image, with the models and the configuration folder mounted."""
    address = socket.getaddrinfo(host, None)[0][4][0]  # Docker does not accept host names
    address = f"[{address}]" if ":" in address else address
    command = [docker, "run", "--rm", "--init", "--publish", f"{address}:{rest_port}:8501"]
    if grpc_port is not None:
        command += ["--publish", f"{address}:{grpc_port}:8500"]
    places = [(config.base_path.absolute(), f"{CONTAINER_MODELS}/{config.name}") for config in configs]
    for source, target in [*places, (Path(folder), _FOLDER)]:
        if "," in f"{source}{target}":
            raise UserError(f"Docker cannot mount paths with a comma. Received: {source}")
        command += ["--mount", f"type=bind,source={source},target={target},readonly"]
    return [*command, IMAGE]


def _in_container(configs):
    return [dataclasses.replace(config, base_path=Path(CONTAINER_MODELS) / config.name) for config in configs]


def _run(command, source, folder, place, batching) -> int:
    def read():
        return model_config_text(place(source.read()))

    text, reported = read(), ""
    for name, content in (
        (LIVE, text),
        (BATCHING, batching or batching_parameters()),
        (MONITORING, monitoring_config()),
    ):
        write_bytes(folder / name, content.encode())
    child = subprocess.Popen(command)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: child.send_signal(received))
    while True:
        try:
            code = child.wait(_POLL_SECONDS)
            return code if code >= 0 else 128 - code  # the exit code of shells for signals
        except subprocess.TimeoutExpired:
            try:
                if (found := read()) != text:
                    write_bytes(folder / LIVE, found.encode())
                text, reported = found, ""
            except (UserError, OSError) as error:  # the child keeps its models
                if str(error) != reported:
                    reported = str(error)
                    print(f"the models are not changed: {reported}", flush=True)
