"""serve() as its own process, with the embedded server and with a program in TF Serving's place."""

import json
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
import tensorflow as tf

from keras_dl.errors import UserError
from keras_dl.serving.serve import curl_example, docker_command, model_config, serve
from keras_dl.serving.server.engine import LoadedModel

MAIN = """
import sys
from pathlib import Path
from keras_dl.serving.serve import serve
folders = dict(pair.split("=") for pair in sys.argv[2:])
sys.exit(serve({name: Path(folder) for name, folder in folders.items()}, rest_port=int(sys.argv[1])))
"""


@pytest.fixture
def start(tmp_path):
    """start(port, folders, path): serve() in a process whose PATH is `path`; its output is a file."""
    started = []

    def run(port, folders, path=""):
        pairs = [f"{name}={folder}" for name, folder in folders.items()]
        output = tmp_path / "output.txt"
        environment = os.environ | {"PATH": path, "PYTHONPATH": os.pathsep.join(sys.path)}
        with open(output, "wb") as file:
            command = [sys.executable, "-c", MAIN, str(port), *pairs]
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=tmp_path)
        started.append(process)
        return process, output

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def read_until(pattern, output, process, seconds=60):
    end = time.monotonic() + seconds
    while not (match := re.search(pattern, output.read_text())):
        assert process.poll() is None and time.monotonic() < end, output.read_text()
        time.sleep(0.05)
    return match


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_the_embedded_server_is_ready_answers_its_examples_and_stops(start, free_port, model_folders, tmp_path, number):
    port = free_port()
    folders = {"hp2": model_folders["hp2"], "sequences": model_folders["sequences"], "gone": tmp_path / "gone"}
    process, output = start(port, folders)
    ready = read_until(r"(?ms)^ready: (.*?)\n(.*gone is not available yet.*?)\n", output, process)
    base = f"http://127.0.0.1:{port}/v1/models"
    assert ready[1].split() == [f"{base}/hp2", f"{base}/sequences"]
    assert "docker run" in output.read_text()
    for line, name in zip(ready[2].splitlines(), ("hp2", "sequences"), strict=False):
        program, option, body, url = shlex.split(line)
        assert (program, option, url) == ("curl", "--data", f"{base}/{name}:predict")
        response = requests.post(url, data=body, timeout=30)
        assert response.status_code == 200, response.text
    process.send_signal(number)
    assert process.wait(20) == 0
    assert "Traceback" not in output.read_text() and "deprecated" not in output.read_text()
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{base}/hp2", timeout=5)


def test_a_request_under_way_is_answered_before_the_end(start, free_port, model_folders):
    port = free_port()
    process, output = start(port, {"hp2": model_folders["hp2"]})
    read_until("(?m)^ready", output, process)
    url = f"http://127.0.0.1:{port}/v1/models/hp2:predict"
    body = {"signature_name": "spin", "inputs": {"steps": 300_000}}
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(requests.post, url, json=body, timeout=30)
        time.sleep(0.3)
        assert not answer.done()
        process.send_signal(signal.SIGTERM)
        assert answer.result().status_code == 200
    assert process.wait(20) == 0


def test_a_port_in_use_is_told_before_anything_is_loaded(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(UserError, match=rf"cannot listen on 127.0.0.1:{port} .*--rest-port"):
            serve({"hp2": tmp_path}, rest_port=port)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none(tmp_path, port):
    with pytest.raises(UserError, match=f"expected --rest-port between 1 and 65535 and received {port}"):
        serve({"hp2": tmp_path}, rest_port=port)


def test_no_models():
    with pytest.raises(UserError, match="keras-dl tune pipelines/"):
        serve({})


SERVER = """#!/bin/sh
trap 'echo stopped; exit 7' TERM
printf '%s\\n' "$@" > arguments.txt
for argument in "$@"; do case "$argument" in --model_config_file=*) cat "${argument#*=}" > config.txt;; esac; done
echo started
while :; do sleep 0.05; done
"""


def test_tensorflow_model_server_is_used_where_it_is(start, free_port, model_folders, tmp_path):
    program = tmp_path / "bin" / "tensorflow_model_server"
    program.parent.mkdir()
    program.write_text(SERVER)
    program.chmod(0o755)
    port = free_port()
    process, output = start(port, model_folders, path=f"{program.parent}{os.pathsep}/usr/bin{os.pathsep}/bin")
    read_until("(?m)^started$", output, process)
    arguments = dict(line.split("=", 1) for line in (tmp_path / "arguments.txt").read_text().splitlines())
    assert sorted(arguments) == ["--grpc_socket_path", "--model_config_file", "--port", "--rest_api_port"]
    assert (arguments["--rest_api_port"], arguments["--port"]) == (str(port), "0")
    config = (tmp_path / "config.txt").read_text()
    assert config == model_config({name: str(folder) for name, folder in model_folders.items()})
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 7
    assert "stopped" in output.read_text()
    assert not Path(arguments["--model_config_file"]).exists()


def test_a_child_that_a_signal_ends_gives_the_code_of_a_shell(start, free_port, model_folders, tmp_path):
    program = tmp_path / "tensorflow_model_server"
    program.write_text("#!/bin/sh\nkill -KILL $$\n")
    program.chmod(0o755)
    process, _ = start(free_port(), model_folders, path=str(tmp_path))
    assert process.wait(20) == 128 + signal.SIGKILL


def test_model_config_is_protobuf_text_with_quoted_strings():
    assert model_config({"a": "/models/a", 'b"c': "/mo dels/ü"}) == (
        "model_config_list {\n"
        '  config { name: "a" base_path: "/models/a" model_platform: "tensorflow" }\n'
        '  config { name: "b\\"c" base_path: "/mo dels/ü" model_platform: "tensorflow" }\n'
        "}\n"
    )


def test_docker_command_for_one_model():
    assert shlex.split(docker_command({"a": Path("/home/me/saved models/a")}, "127.0.0.1", 8501)) == [
        *("docker", "run", "--rm", "--publish", "127.0.0.1:8501:8501"),
        *("--mount", "type=bind,source=/home/me/saved models/a,target=/models/a,readonly"),
        *("--env", "MODEL_NAME=a", "tensorflow/serving"),
    ]


def test_docker_command_for_several_models_runs_in_a_shell(tmp_path):
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    docker.chmod(0o755)
    command = docker_command({"a": Path("/m/it's a"), "b": Path("/m/b")}, "127.0.0.1", 9000)
    environment = {"PATH": f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin"}
    ran = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines() == [
        *("run", "--rm", "--publish", "127.0.0.1:9000:8501"),
        *("--mount", "type=bind,source=/m/it's a,target=/models/a,readonly"),
        *("--mount", "type=bind,source=/m/b,target=/models/b,readonly"),
        *("--mount", f"type=bind,source={tmp_path}/models.config,target=/models/models.config,readonly"),
        *("tensorflow/serving", "--model_config_file=/models/models.config"),
    ]
    assert (tmp_path / "models.config").read_text() == model_config({"a": "/models/a", "b": "/models/b"})


@pytest.mark.parametrize(
    "signature_name, shape, dtype, expected",
    [
        ("serving_default", [None, None, 2], tf.float32, {"inputs": {"x": [[[0.0, 0.0]]]}}),
        ("serving_default", None, tf.bool, {"inputs": {"x": [False]}}),
        ("other", [None], tf.string, {"inputs": {"x": ["text"]}, "signature_name": "other"}),
        ("serving_default", [], tf.int64, {"inputs": {"x": 0}}),
        ("serving_default", [None, 28, 28], tf.float32, None),
    ],
)
def test_curl_example(tmp_path, signature_name, shape, dtype, expected):
    module = tf.Module()
    module.function = tf.function(lambda x: {"y": tf.identity(x)}, input_signature=[tf.TensorSpec(shape, dtype, "x")])
    tf.saved_model.save(module, str(tmp_path), signatures={signature_name: module.function})
    program, *options, url = shlex.split(curl_example(LoadedModel("m", 1, tmp_path), "http://host:1"))
    assert program == "curl"
    if expected is None:
        assert (options, url) == ([], "http://host:1/v1/models/m/metadata")
    else:
        assert (options[0], json.loads(options[1])) == ("--data", expected)
        assert url == "http://host:1/v1/models/m:predict"
