"""TensorFlow Serving as a child: a program in its place says what it was started with and what it could read."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from keras_dl.durable import write_bytes
from keras_dl.errors import UserError
from keras_dl.serving.configuration import model_config_text
from keras_dl.serving.server.config import ModelConfig, read_model_config
from keras_dl.serving.tensorflow_serving import docker_command

MAIN = """
import sys
from pathlib import Path
from keras_dl.serving.serve import serve
from keras_dl.serving.server.source import SavedModels
sys.exit(serve(SavedModels(Path(sys.argv[2])), rest_port=int(sys.argv[1]), by=sys.argv[3] or None))
"""

# Shows its arguments and each new content of the configuration that it is given.
CHILD = """#!/bin/sh
trap 'echo stopped; exit 7' TERM
printf '%s\\n' "$@" > arguments.txt
for argument in "$@"; do case "$argument" in
  --mount) ;;
  type=bind,*target=/configuration,*) folder=${argument#*source=}; file=${folder%%,*}/models.config;;
  --model_config_file=/configuration/*) ;;
  --model_config_file=*) file="${argument#*=}";;
esac; done
echo started
while :; do cp "$file" config.tmp && mv config.tmp config.txt; sleep 0.05; done
"""


@pytest.fixture
def folder(tmp_path):
    """saved_models/ with an exported model."""
    (tmp_path / "saved_models" / "digits" / "3").mkdir(parents=True)
    return tmp_path / "saved_models"


@pytest.fixture
def start(tmp_path, folder, free_port):
    """start(program, content, by): serve() in a process in which a program of this name is first on PATH; its port."""
    started = []

    def run(program, content, by=""):
        path = tmp_path / "bin" / program
        path.parent.mkdir()
        path.write_text(content)
        path.chmod(0o755)
        environment = os.environ | {
            "PATH": f"{path.parent}{os.pathsep}/usr/bin{os.pathsep}/bin",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        port = free_port()
        command = [sys.executable, "-c", MAIN, str(port), str(folder), by]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path)
        started.append(process)
        return process, port

    yield run
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def read_until_started(process):
    while process.stdout.readline().strip() != "started":
        assert process.poll() is None


def test_the_program_is_used_where_it_is_and_follows_the_live_file(start, folder, tmp_path, eventually):
    process, port = start("tensorflow_model_server", CHILD)
    read_until_started(process)
    arguments = dict(line.split("=", 1) for line in (tmp_path / "arguments.txt").read_text().splitlines())
    assert sorted(arguments) == [
        *("--allow_version_labels_for_unavailable_models", "--batching_parameters_file", "--enable_batching"),
        *("--enable_per_model_batching_parameters", "--grpc_socket_path", "--model_config_file"),
        *("--model_config_file_poll_wait_seconds", "--monitoring_config_file", "--port", "--rest_api_port"),
    ]
    for option in ("--batching_parameters_file", "--monitoring_config_file"):
        assert Path(arguments[option]).read_text()
    assert (arguments["--rest_api_port"], arguments["--port"]) == (str(port), "0")
    config = tmp_path / "config.txt"
    assert eventually(config.exists)
    assert read_model_config(config.read_text()) == [ModelConfig("digits", folder / "digits")]

    live = ModelConfig("digits", Path("/models/digits"), labels={"champion": 3})
    write_bytes(folder / "models.config", model_config_text([live]).encode())
    assert eventually(lambda: read_model_config(config.read_text())[0].labels == {"champion": 3})
    write_bytes(folder / "models.config", b"nonsense")
    assert "the models stay as they are: expected TensorFlow Serving's model_config_list" in process.stdout.readline()

    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 7
    assert "stopped" in process.stdout.read()
    assert not Path(arguments["--model_config_file"]).exists()


def test_docker_is_started_with_the_models_and_their_configuration(start, folder, tmp_path, eventually):
    process, port = start("docker", CHILD, by="docker")
    read_until_started(process)
    assert eventually((tmp_path / "config.txt").exists)
    arguments = (tmp_path / "arguments.txt").read_text().splitlines()
    assert arguments[:5] == ["run", "--rm", "--init", "--publish", f"127.0.0.1:{port}:8501"]
    assert f"type=bind,source={folder}/digits,target=/models/digits,readonly" in arguments
    options = arguments[arguments.index("tensorflow/serving:latest") + 1 :]
    assert options[0] == "--model_config_file=/configuration/models.config"
    configs = read_model_config((tmp_path / "config.txt").read_text())
    assert configs == [ModelConfig("digits", Path("/models/digits"))]
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 7


def test_a_child_that_a_signal_ends_gives_the_code_of_a_shell(start):
    process, _ = start("tensorflow_model_server", "#!/bin/sh\nkill -KILL $$\n")
    assert process.wait(120) == 128 + signal.SIGKILL


def test_docker_mounts_say_no_comma():
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
    with pytest.raises(UserError, match="expected a folder without a comma"):
        docker_command("docker", [ModelConfig("a", Path("/x,y"))], "/tmp/c", "127.0.0.1", 9000, None)
