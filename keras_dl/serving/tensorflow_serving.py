"""TensorFlow Serving itself as a child process: the program `tensorflow_model_server`, or its Docker image."""

import shlex
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from keras_dl.durable import write_bytes
from keras_dl.errors import UserError
from keras_dl.serving.configuration import model_config_text
from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.source import Source

BINARY = "tensorflow_model_server"
IMAGE = "tensorflow/serving"
_CONFIG = "models.config"
_POLL_SECONDS = 1.0


def run_binary(binary: str, source: Source, rest_port: int, grpc_port: int | None) -> int:
    """Runs the program on the models of a source until it ends or is stopped; returns its exit code.

    It has no option for an address and listens on all of them, so that without `grpc_port` it gets a socket in a folder
    of ours for gRPC, which it insists on.

    Args:
        binary: its path.
        source: the models; followed while it runs.
        rest_port: of the REST API.
        grpc_port: of gRPC, or None.
    """
    with tempfile.TemporaryDirectory(prefix="keras-dl-serve-") as temporary:
        grpc = [f"--port={grpc_port or 0}"]
        if grpc_port is None:
            grpc.append(f"--grpc_socket_path={Path(temporary, 'grpc.sock')}")
        command = [binary, f"--rest_api_port={rest_port}", *grpc, *_flags(temporary)]
        print(f"{shlex.join(command)}\nIt listens on all interfaces: it has no option for fewer.", flush=True)
        return _run(command, source, Path(temporary), lambda configs: configs)


def run_docker(docker: str, source: Source, host: str, rest_port: int, grpc_port: int | None) -> int:
    """Runs the image on the models of a source until it ends or is stopped; returns its exit code.

    Models are mounted read-only, each folder where it is named in the configuration. What the source says later is
    followed as far as folders go that are mounted already.

    Args:
        docker: the path of the program `docker`.
        source: the models.
        host: the address of this machine to publish the ports on.
        rest_port: of the REST API.
        grpc_port: of gRPC, or None.
    """
    with tempfile.TemporaryDirectory(prefix="keras-dl-serve-") as temporary:
        command = docker_command(docker, source.read(), temporary, host, rest_port, grpc_port)
        print(shlex.join(command), flush=True)
        return _run(command, source, Path(temporary), _in_container)


def docker_command(
    docker: str, configs: Sequence[ModelConfig], folder: str, host: str, rest_port: int, grpc_port: int | None
) -> list[str]:
    """The `docker run` that serves the models, with its configuration in a folder that is mounted, too.

    Raises:
        UserError: a folder has a comma, which Docker's mounts cannot say.
    """
    command = [docker, "run", "--rm", "--init", "--publish", f"{host}:{rest_port}:8501"]
    if grpc_port is not None:
        command += ["--publish", f"{host}:{grpc_port}:8500"]
    places = [(config.base_path.absolute(), f"/models/{config.name}") for config in configs]
    for source, target in [*places, (Path(folder), "/configuration")]:
        if "," in f"{source}{target}":
            raise UserError(f"expected a folder without a comma, which Docker cannot mount, and received {source}")
        command += ["--mount", f"type=bind,source={source},target={target},readonly"]
    return [*command, IMAGE, *_flags("/configuration")]


def _flags(folder):
    return [
        f"--model_config_file={folder}/{_CONFIG}",
        f"--model_config_file_poll_wait_seconds={_POLL_SECONDS:.0f}",
        "--allow_version_labels_for_unavailable_models=true",
    ]


def _in_container(configs):
    return [ModelConfig(config.name, Path("/models") / config.name, config.policy, config.labels) for config in configs]


def _run(command, source, folder, place) -> int:
    def read():
        return model_config_text(place(source.read()))

    text, told = read(), ""
    write_bytes(folder / _CONFIG, text.encode())
    child = subprocess.Popen(command)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: child.send_signal(received))
    while True:
        try:
            code = child.wait(_POLL_SECONDS)
            return code if code >= 0 else 128 - code  # as a shell reports an end by a signal
        except subprocess.TimeoutExpired:
            try:
                if (found := read()) != text:
                    write_bytes(folder / _CONFIG, found.encode())
                text, told = found, ""
            except (UserError, OSError) as error:  # it goes on with what it has
                if str(error) != told:
                    told = str(error)
                    print(f"the models stay as they are: {told}", flush=True)
