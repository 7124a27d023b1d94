"""`keras-dl serve` in its own process with the embedded server: ready, answering, following, draining; refusing."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from keras_dl.cli import main
from keras_dl.durable import write_bytes
from keras_dl.errors import UserError
from keras_dl.serving.configuration import model_config_text
from keras_dl.serving.serve import serve
from keras_dl.serving.server.config import ModelConfig, VersionPolicy
from keras_dl.serving.server.source import SavedModels


@pytest.fixture
def start(tmp_path):
    """start(*arguments): `keras-dl serve` in a process in an empty folder; its output is a file."""
    started = []

    def run(*arguments):
        output = tmp_path / "output.txt"
        environment = os.environ | {"PATH": "", "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "keras_dl.cli", "serve", *map(str, arguments)]
        with open(output, "wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=tmp_path)
        started.append(process)
        return process, output

    yield run
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def config(tmp_path, model_folders):
    """A models.config with hp2, sequences, and a model whose folder is not there."""
    configs = [ModelConfig(name, model_folders[name]) for name in ("hp2", "sequences")]
    path = tmp_path / "models.config"
    path.write_text(model_config_text([*configs, ModelConfig("gone", tmp_path / "gone")]))
    return path


def read_until(pattern, output, process, seconds=120):
    end = time.monotonic() + seconds
    while not (match := re.search(pattern, output.read_text())):
        assert process.poll() is None and time.monotonic() < end, output.read_text()
        time.sleep(0.05)
    return match


def test_ready_with_examples_that_are_answered_a_config_that_is_followed_and_an_end(
    start, free_port, config, model_folders, tmp_path, eventually
):
    port, grpc_port = free_port(), free_port()
    process, output = start("--config", config, "--rest-port", port, "--grpc-port", grpc_port)
    ready = read_until(r"(?ms)^ready: (.*?)\n(.*gone is not available yet.*?)\npage: ", output, process)
    base = f"http://127.0.0.1:{port}/v1/models"
    assert ready[1].split() == [f"{base}/hp2", f"{base}/sequences"]
    for line, name in zip(ready[2].splitlines(), ("hp2", "sequences"), strict=False):
        program, option, body, url = shlex.split(line)
        assert (program, option, url) == ("curl", "--data", f"{base}/{name}:predict")
        response = requests.post(url, data=body, timeout=30)
        assert response.status_code == 200, response.text
    assert requests.get(f"http://127.0.0.1:{port}/readyz", timeout=30).status_code == 503  # one model is missing

    labelled = ModelConfig("hp2", model_folders["hp2"], VersionPolicy(latest=2), {"stable": 123})
    write_bytes(config, model_config_text([labelled]).encode())
    ask = f"{base}/hp2/labels/stable:predict"
    assert eventually(lambda: requests.post(ask, json={"inputs": [3.0]}, timeout=30).status_code == 200)
    assert requests.get(f"http://127.0.0.1:{port}/readyz", timeout=30).status_code == 200
    assert requests.post(f"{base}/sequences:predict", data="{}", timeout=30).status_code == 404

    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert "Traceback" not in output.read_text() and "deprecated" not in output.read_text()
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{base}/hp2", timeout=5)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_request_under_way_is_answered_before_the_end(start, free_port, config, number):
    port = free_port()
    process, output = start("--config", config, "--rest-port", port, "--grpc-port", free_port(), "--no-batching")
    read_until("(?m)^ready", output, process)
    url = f"http://127.0.0.1:{port}/v1/models/hp2:predict"
    body = {"signature_name": "spin", "inputs": {"steps": 300_000}}
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(requests.post, url, json=body, timeout=30)
        time.sleep(0.3)
        assert not answer.done()
        process.send_signal(number)
        assert answer.result().status_code == 200
    assert process.wait(20) == 0


@pytest.mark.parametrize("option", ["--rest-port", "--grpc-port"])
def test_a_port_in_use_is_told_before_anything_is_loaded(model_folders, free_port, option):
    source = SavedModels(model_folders["hp2"].parent)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]
        ports = {"rest_port": free_port(), option[2:].replace("-", "_"): taken}
        with pytest.raises(UserError, match=rf"cannot listen on 127.0.0.1:{taken} .*{option}"):
            serve(source, **ports, by="embedded")


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none(model_folders, port):
    with pytest.raises(UserError, match=f"expected --rest-port between 1 and 65535 and received {port}"):
        serve(SavedModels(model_folders["hp2"].parent), rest_port=port)


def test_no_models(tmp_path):
    with pytest.raises(UserError, match="keras-dl tune pipelines/"):
        serve(SavedModels(tmp_path))


def test_docker_that_is_not_there(model_folders, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="expected Docker and found no program docker on PATH"):
        serve(SavedModels(model_folders["hp2"].parent), by="docker")


def test_grpc_that_is_not_installed(model_folders, free_port, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'keras-dl\[grpc\]'"):
        serve(SavedModels(model_folders["hp2"].parent), grpc_port=free_port(), by="embedded")


def test_batching_parameters_that_are_none(model_folders):
    with pytest.raises(UserError, match="invalid batching parameters of TensorFlow Serving"):
        serve(SavedModels(model_folders["hp2"].parent), batching="max_batch { value: 8 }")


@pytest.mark.parametrize(
    "arguments, problem",
    [
        (["a", "--config", "c"], "expected --config alone, .* Received: a; --config c"),
        (["--config", "c", "--write-config", "d"], "expected --config alone, .* --write-config d"),
        (["--batching", "none.txt"], "cannot read none.txt: No such file"),
        (["nothing"], "no model 'nothing' in .*saved_models. There is: none"),
    ],
)
def test_options_that_cannot_be(project, capsys, arguments, problem):
    assert main(["serve", *arguments]) == 2
    assert re.search(problem, capsys.readouterr().err)
