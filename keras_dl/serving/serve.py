"""Serves exported models over TensorFlow Serving's REST API, by TensorFlow Serving itself where it is installed."""

import json
import logging
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keras_dl.errors import UserError

_BINARY = "tensorflow_model_server"
_MOST_EXAMPLE_VALUES = 64


def serve(models: Mapping[str, Path], host: str = "127.0.0.1", rest_port: int = 8501, embedded: bool = False) -> int:
    """Serves until SIGINT or SIGTERM, and returns the exit code.

    Runs ``tensorflow_model_server`` if it is on PATH, else the embedded server, after printing the ``docker run`` line
    that would start the real one.

    Args:
        models: for each served name the base folder with its version folders.
        host: the address to listen on. ``tensorflow_model_server`` has no option for it and listens on all of them.
        rest_port: the port of the REST API.
        embedded: True to run the embedded server in any case.

    Raises:
        UserError: there are no models, or host and port cannot be listened on; no model has been loaded then.
    """
    if not models:
        raise UserError("expected a model to serve and received none: make one with `keras-dl tune pipelines/NAME.py`")
    listener = _listen(host, rest_port)
    folders = {name: Path(folder).absolute() for name, folder in models.items()}
    binary = None if embedded else shutil.which(_BINARY)
    if binary:
        listener.close()
        return _run_tensorflow_serving(binary, folders, rest_port)
    print(f"TensorFlow Serving itself would serve this with:\n{docker_command(folders, host, rest_port)}", flush=True)
    return _run_embedded(folders, f"http://{host}:{rest_port}", listener)


def model_config(folders: Mapping[str, str]) -> str:
    """TensorFlow Serving's ``--model_config_file`` (ModelServerConfig, text form) for base folders by served name."""
    configs = "".join(
        f'  config {{ name: {_quoted(name)} base_path: {_quoted(folder)} model_platform: "tensorflow" }}\n'
        for name, folder in folders.items()
    )
    return f"model_config_list {{\n{configs}}}\n"


def docker_command(folders: Mapping[str, Path], host: str, rest_port: int) -> str:
    """The shell line that serves the folders, mounted read-only, with the image ``tensorflow/serving``.

    Several models need a configuration file, which the line writes to ``models.config`` in the current folder.
    """
    options = ["docker", "run", "--rm", "--publish", f"{host}:{rest_port}:8501"]
    for name, folder in folders.items():
        options += ["--mount", f"type=bind,source={folder},target=/models/{name},readonly"]
    if len(folders) == 1:
        return shlex.join([*options, "--env", f"MODEL_NAME={next(iter(folders))}", "tensorflow/serving"])
    config = model_config({name: f"/models/{name}" for name in folders})
    target = "/models/models.config"
    mount = f'--mount type=bind,source="$PWD/models.config",target={target},readonly'
    write = f"printf %s {shlex.quote(config)} > models.config"
    return f"{write} && {shlex.join(options)} {mount} tensorflow/serving --model_config_file={target}"


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket: it keeps the port from here on, and what connects before the server is up waits."""
    if not 1 <= port <= 65535:
        raise UserError(f"expected --rest-port between 1 and 65535 and received {port}")
    try:
        return socket.create_server((host, port))
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot listen on {host}:{port} ({reason}): give a free port with --rest-port") from None


def _run_tensorflow_serving(binary: str, folders: Mapping[str, Path], rest_port: int) -> int:
    with tempfile.TemporaryDirectory(prefix="keras-dl-serve-") as temporary:
        config = Path(temporary, "models.config")
        config.write_text(model_config({name: str(folder) for name, folder in folders.items()}), encoding="utf-8")
        # It insists on a place for gRPC: a socket in a folder of ours alone, instead of a port on all interfaces.
        grpc = ["--port=0", f"--grpc_socket_path={Path(temporary, 'grpc.sock')}"]
        command = [binary, f"--rest_api_port={rest_port}", f"--model_config_file={config}", *grpc]
        print(f"{shlex.join(command)}\nIt listens on all interfaces: it has no option for fewer.", flush=True)
        child = subprocess.Popen(command)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda received, _: child.send_signal(received))
        code = child.wait()
    return code if code >= 0 else 128 - code  # as a shell reports an end by a signal


def _run_embedded(folders: Mapping[str, Path], url: str, listener: socket.socket) -> int:
    import uvicorn  # here and not above: TensorFlow takes seconds to import, and the checks come first

    from keras_dl.serving.server.app import create_app
    from keras_dl.serving.server.config import ModelConfig
    from keras_dl.serving.server.store import ModelStore

    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it calls the loader that TF Serving uses deprecated
    with ModelStore([ModelConfig(name, folder) for name, folder in folders.items()]) as store:
        config = uvicorn.Config(create_app(store), log_level="warning", lifespan="off", timeout_graceful_shutdown=30)
        server = uvicorn.Server(config)
        # uvicorn sends the signal that stopped it once more; with these handlers that is not the end of the process.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: setattr(server, "should_exit", True))

        def announce() -> None:
            store.polled.wait()
            if not server.should_exit:
                print(_ready_text(store, folders, url), flush=True)

        threading.Thread(target=announce, daemon=True).start()
        server.run(sockets=[listener])
    return 0


def _ready_text(store, folders: Mapping[str, Path], url: str) -> str:
    missing = store.unavailable()
    available = [name for name in folders if name not in missing]
    urls = " ".join(f"{url}/v1/models/{name}" for name in available)
    lines = [
        f"ready: {urls or 'no model could be loaded'}",
        *(curl_example(store.get(name), url) for name in available),
    ]
    lines += [f"{name} is not available yet: a complete version is awaited in {folders[name]}" for name in missing]
    return "\n".join(lines)


def curl_example(model, url: str) -> str:
    """A curl command that a loaded model answers: one element for each unknown dimension, zeros or "text" as values.

    Where that would be long, or there is nothing to call, it asks for the description of the inputs instead.
    """
    base = f"{url}/v1/models/{model.name}"
    callable_names = [name for name, dtypes in model.input_dtypes.items() if dtypes]
    signature_name = min(callable_names, key=lambda name: (name != "serving_default", name), default=None)
    if signature_name is None:
        return f"curl {shlex.quote(base + '/metadata')}"
    values, count = {}, 0
    for name, info in model.signatures[signature_name].inputs.items():
        shape = [1] if info.tensor_shape.unknown_rank else [max(dim.size, 1) for dim in info.tensor_shape.dim]
        dtype = model.input_dtypes[signature_name][name]
        count += int(np.prod(shape))
        if count > _MOST_EXAMPLE_VALUES:
            return f"curl {shlex.quote(base + '/metadata')}"
        fill = "text" if dtype == "string" else dtype.as_numpy_dtype(0).item()
        values[name] = np.full(shape, fill).tolist()
    request = {"inputs": values} | ({} if signature_name == "serving_default" else {"signature_name": signature_name})
    return f"curl --data {shlex.quote(json.dumps(request))} {shlex.quote(base + ':predict')}"


def _quoted(text: str) -> str:
    """A string of protobuf's text form, which reads JSON's escapes."""
    return json.dumps(text, ensure_ascii=False)
