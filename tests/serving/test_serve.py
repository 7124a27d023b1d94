"""`keras-dl serve` with the embedded server and with stand-ins for TensorFlow Serving."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from keras_dl.cli import main
from keras_dl.durable import write_bytes
from keras_dl.errors import UserError
from keras_dl.serving import serve as serve_module
from keras_dl.serving.configuration import model_config_text
from keras_dl.serving.serve import docker_command, serve
from keras_dl.serving.server.config import ModelConfig, VersionPolicy, read_model_config
from keras_dl.serving.server.source import SavedModels
from keras_dl.tracking.settings import default_file

# Writes its arguments to a file, and copies each new content of its configuration.
CHILD = """#!/bin/sh
trap 'echo stopped; exit 7' TERM
for argument in "$@"; do case "$argument" in
  --mount) ;;
  type=bind,*target=/configuration,*) folder=${argument#*source=}; file=${folder%%,*}/models.config;;
  --model_config_file=/configuration/*) ;;
  --model_config_file=*) file="${argument#*=}";;
esac; done
printf '%s\\n' "$@" > arguments.tmp
mv arguments.tmp arguments.txt
while :; do cp "$file" config.tmp && mv config.tmp config.txt; sleep 0.05; done
"""


@pytest.fixture
def start(tmp_path):
    """start(*arguments): runs `keras-dl serve` in an empty folder; returns the process and the file of its output."""
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
    """A models.config with hp2, sequences, and a model whose folder does not exist."""
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


def check_that_a_running_request_is_answered(process, port, number):
    """Sends a request of about a second and then the signal; expects the answer and the exit code 0."""
    body = b'{"signature_name": "spin", "inputs": {"steps": 300000}}'
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        head = f"POST /v1/models/hp2:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        process.send_signal(number)
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
    assert process.wait(30) == 0


def test_the_server_answers_follows_its_configuration_and_finishes_requests_before_it_ends(
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

    labeled = ModelConfig("hp2", model_folders["hp2"], VersionPolicy(latest=2), {"stable": 123})
    write_bytes(config, model_config_text([labeled]).encode())
    ask = f"{base}/hp2/labels/stable:predict"
    assert eventually(lambda: requests.post(ask, json={"inputs": [3.0]}, timeout=30).status_code == 200)
    assert requests.get(f"http://127.0.0.1:{port}/readyz", timeout=30).status_code == 200
    assert requests.post(f"{base}/sequences:predict", data="{}", timeout=30).status_code == 404

    check_that_a_running_request_is_answered(process, port, signal.SIGTERM)
    assert "Traceback" not in output.read_text() and "deprecated" not in output.read_text()
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{base}/hp2", timeout=5)


@pytest.mark.slow
def test_ctrl_c_ends_the_server_after_its_requests(start, free_port, config):
    port = free_port()
    process, output = start("--config", config, "--rest-port", port, "--grpc-port", free_port(), "--no-batching")
    read_until("(?m)^ready", output, process)
    check_that_a_running_request_is_answered(process, port, signal.SIGINT)


@pytest.mark.parametrize("option", ["--rest-port", "--grpc-port"])
def test_a_port_in_use_is_reported_before_loading(model_folders, free_port, option):
    source = SavedModels(model_folders["hp2"].parent)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]
        ports = {"rest_port": free_port(), option[2:].replace("-", "_"): taken}
        with pytest.raises(UserError, match=rf"cannot listen on 127.0.0.1:{taken} .*{option}"):
            serve(source, **ports, by="embedded")


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_invalid_ports(model_folders, port):
    with pytest.raises(UserError, match=f"expected --rest-port between 1 and 65535. Received: {port}"):
        serve(SavedModels(model_folders["hp2"].parent), rest_port=port)


def test_no_models(tmp_path):
    with pytest.raises(UserError, match="keras-dl tune pipelines/"):
        serve(SavedModels(tmp_path))


def test_docker_is_not_installed(model_folders, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="docker is not on PATH: install Docker, or omit --docker"):
        serve(SavedModels(model_folders["hp2"].parent), by="docker")


def test_grpc_is_not_installed(model_folders, free_port, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"gRPC requires the grpc extra: pip install 'keras-dl\[grpc\]'"):
        serve(SavedModels(model_folders["hp2"].parent), grpc_port=free_port(), by="embedded")


def test_invalid_batching_parameters(model_folders):
    with pytest.raises(UserError, match="invalid batching parameters of TensorFlow Serving"):
        serve(SavedModels(model_folders["hp2"].parent), batching="max_batch { value: 8 }")


@pytest.mark.parametrize(
    "arguments, problem",
    [
        (["a", "--config", "c"], "expected --config without .* Received: a; --config c"),
        (["--config", "c", "--write-config", "d"], "expected --config without .* --write-config d"),
        (["--batching", "none.txt"], "cannot read none.txt: No such file"),
        (["nothing"], "no model 'nothing' in .*saved_models. Available: none"),
    ],
)
def test_invalid_options(tmp_path, monkeypatch, capsys, arguments, problem):
    (tmp_path / "mlflow.yaml").write_text(default_file())
    monkeypatch.chdir(tmp_path)
    assert main(["serve", *arguments]) == 2
    assert re.search(problem, capsys.readouterr().err)


class Source(SavedModels):
    """Counts how often it was read."""

    reads = 0

    def read(self):
        self.reads += 1
        return super().read()


@pytest.fixture
def folder(tmp_path):
    """saved_models/ with an exported model."""
    (tmp_path / "saved_models" / "digits" / "3").mkdir(parents=True)
    return tmp_path / "saved_models"


@pytest.fixture
def run(tmp_path, folder, free_port, monkeypatch, eventually):
    """run(program, content, by, check): the exit code of serve() with a script of this name first on PATH.

    Meanwhile `check(port, source)` runs in a thread, between the start of the script and a SIGTERM.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(serve_module, "_POLL_SECONDS", 0.05)
    monkeypatch.chdir(tmp_path)

    def follow(check, *arguments):
        try:
            assert eventually((tmp_path / "arguments.txt").exists)
            assert eventually((tmp_path / "config.txt").exists)
            check(*arguments)
        finally:
            if eventually(lambda: signal.getsignal(signal.SIGTERM) != handlers[signal.SIGTERM]):
                os.kill(os.getpid(), signal.SIGTERM)

    def run(program, content, by=None, check=None):
        path = tmp_path / "bin" / program
        path.parent.mkdir()
        path.write_text(content)
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}/usr/bin{os.pathsep}/bin")
        source, port = Source(folder), free_port()
        with ThreadPoolExecutor(1) as pool:
            checked = pool.submit(follow, check, port, source) if check else None
            code = serve(source, rest_port=port, by=by)
            if checked:
                checked.result()
        return code

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_the_program_on_the_path_is_used_and_its_configuration_is_updated(run, folder, tmp_path, eventually, capfd):
    def check(port, source):
        lines = (tmp_path / "arguments.txt").read_text().splitlines()
        arguments.update(line.split("=", 1) for line in lines)
        assert sorted(arguments) == [
            *("--allow_version_labels_for_unavailable_models", "--batching_parameters_file", "--enable_batching"),
            *("--enable_per_model_batching_parameters", "--grpc_socket_path", "--model_config_file"),
            *("--model_config_file_poll_wait_seconds", "--monitoring_config_file", "--port", "--rest_api_port"),
        ]
        for option in ("--batching_parameters_file", "--monitoring_config_file"):
            assert Path(arguments[option]).read_text()
        assert (arguments["--rest_api_port"], arguments["--port"]) == (str(port), "0")
        config = tmp_path / "config.txt"
        assert read_model_config(config.read_text()) == [ModelConfig("digits", folder / "digits")]

        live = ModelConfig("digits", Path("/models/digits"), labels={"champion": 3})
        write_bytes(folder / "models.config", model_config_text([live]).encode())
        assert eventually(lambda: read_model_config(config.read_text())[0].labels == {"champion": 3})
        write_bytes(folder / "models.config", b"nonsense")
        reads = source.reads
        assert eventually(lambda: source.reads > reads + 2)
        assert read_model_config(config.read_text())[0].labels == {"champion": 3}

    arguments = {}
    assert run("tensorflow_model_server", CHILD, check=check) == 7
    output = capfd.readouterr().out
    assert output.count("the models are not changed: ") == 1 and '"nonsense"' in output
    assert output.endswith("stopped\n")
    assert not Path(arguments["--model_config_file"]).exists()


def test_docker_runs_with_the_models_and_their_configuration(run, folder, tmp_path):
    def check(port, source):
        arguments = (tmp_path / "arguments.txt").read_text().splitlines()
        assert arguments[:5] == ["run", "--rm", "--init", "--publish", f"127.0.0.1:{port}:8501"]
        assert f"type=bind,source={folder}/digits,target=/models/digits,readonly" in arguments
        options = arguments[arguments.index("tensorflow/serving:latest") + 1 :]
        assert options[0] == "--model_config_file=/configuration/models.config"
        configs = read_model_config((tmp_path / "config.txt").read_text())
        assert configs == [ModelConfig("digits", Path("/models/digits"))]

    assert run("docker", CHILD, by="docker", check=check) == 7


def test_a_child_killed_by_a_signal_gives_the_exit_code_of_a_shell(run):
    assert run("tensorflow_model_server", "#!/bin/sh\nkill -KILL $$\n") == 128 + signal.SIGKILL


def test_the_docker_command():
    configs = [ModelConfig("a", Path("/home/me/saved models/a")), ModelConfig("b", Path("/m/it's b"))]
    command = docker_command("docker", configs, "/tmp/c", "localhost", 9000, 9001)
    assert docker_command("docker", configs, "/tmp/c", "::1", 9000, None)[5] == "[::1]:9000:8501"
    assert command[:8] == [
        *("docker", "run", "--rm", "--init", "--publish", "127.0.0.1:9000:8501"),
        *("--publish", "127.0.0.1:9001:8500"),
    ]
    assert [part for part in command if part.startswith("type=")] == [
        "type=bind,source=/home/me/saved models/a,target=/models/a,readonly",
        "type=bind,source=/m/it's b,target=/models/b,readonly",
        "type=bind,source=/tmp/c,target=/configuration,readonly",
    ]
    with pytest.raises(UserError, match="Docker cannot mount paths with a comma. Received: /x,y"):
        docker_command("docker", [ModelConfig("a", Path("/x,y"))], "/tmp/c", "127.0.0.1", 9000, None)
