"""TensorFlow Serving as a child process, replaced by a script that records its arguments and its configuration."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keras_dl.durable import write_bytes
from keras_dl.errors import UserError
from keras_dl.serving import tensorflow_serving
from keras_dl.serving.configuration import model_config_text
from keras_dl.serving.serve import serve
from keras_dl.serving.server.config import ModelConfig, read_model_config
from keras_dl.serving.server.source import SavedModels
from keras_dl.serving.tensorflow_serving import docker_command

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
    monkeypatch.setattr(tensorflow_serving, "_POLL_SECONDS", 0.05)
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
