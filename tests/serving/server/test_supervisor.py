"""Restarts after a crash: exit codes, signals, failed starts, and the requests of a real server."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import requests
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from keras_dl.serving.configuration import model_config_text
from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.tensors import to_proto

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
# Each start of the server takes the next step of a scenario; the steps are counted in a file.
SCENARIO = """
import os, signal, socket, sys, time
from keras_dl.serving.server.supervisor import loading, ready, running, supervise
steps = sys.argv[2:]
def serve():
    with open(sys.argv[1], "a") as file:
        file.write(f"{os.getpid()}\\n")
        file.flush()
    with open(sys.argv[1]) as file:
        step = steps[min(len(file.readlines()), len(steps)) - 1]
    if step == "wait":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
        print("waiting", flush=True)
        signal.pause()
    if step == "return":
        return 7
    if step == "raise":
        raise ValueError("the port is in use")
    if step in ("run", "idle", "reload"):
        ready()
    if step == "idle":
        os.abort()
    with running("m, version 1") if step == "run" else loading("m, version 2"):
        os.abort()
sys.exit(supervise(serve, socket.socket()))
"""
SERVER = """
import socket, sys
from pathlib import Path
from keras_dl.serving.server.run import run_embedded
from keras_dl.serving.server.source import ConfigFile
listener = socket.create_server(("127.0.0.1", int(sys.argv[2])), backlog=1024)
sys.exit(run_embedded(ConfigFile(Path(sys.argv[1])), "127.0.0.1", listener, int(sys.argv[3]), None, allow_unsafe=True))
"""


def scenario(tmp_path, *steps):
    command = [sys.executable, "-c", SCENARIO, str(tmp_path / "starts.txt"), *steps]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT)


@pytest.mark.parametrize(
    "steps, code, lines",
    [
        (["return"], 7, []),
        (["raise"], 1, None),
        (
            ["run"] * 4 + ["idle", "return"],
            7,
            ["the server crashed while running m, version 1 (SIGABRT): restarting"] * 4
            + ["the server crashed (SIGABRT): restarting"],
        ),
        (
            ["load", "load", "run", "reload"],
            1,
            ["the server crashed while loading m, version 2 (SIGABRT): restarting"] * 2
            + ["the server crashed while running m, version 1 (SIGABRT): restarting"]
            + ["the server crashed while loading m, version 2 (SIGABRT): restarting"] * 2
            + ["the server crashed while loading m, version 2 (SIGABRT) for the third time: giving up"],
        ),
    ],
)
def test_the_server_is_restarted_after_crashes_but_not_after_three_failed_starts(tmp_path, steps, code, lines):
    process = scenario(tmp_path, *steps)
    output = process.communicate(timeout=120)[0].splitlines()
    assert process.returncode == code, output
    if lines is None:
        assert output[-1] == "ValueError: the port is in use" and output.count(output[-1]) == 1
    else:
        assert [line for line in output if line.startswith("the server")] == lines


def test_signals_are_passed_on(tmp_path):
    process = scenario(tmp_path, "wait")
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 5


def test_the_server_ends_with_its_parent(tmp_path):
    process = scenario(tmp_path, "wait")
    assert process.stdout.readline() == "waiting\n"
    process.kill()
    assert process.stdout.read() == ""  # the pipe is closed when the server has ended
    process.wait()


@pytest.fixture
def crashing(tmp_path, model_folders, free_port, eventually):
    """A server of hp2 and of a model that aborts if its input is negative: process, ports, and file of its output."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x")])
    def abort(x):
        def end():
            with tf.control_dependencies([tf.raw_ops.Abort(error_msg="a check failed", exit_without_error=False)]):
                return tf.identity(x)

        return {"y": tf.cond(x < 0, end, lambda: x)}

    folder = tmp_path / "aborts"
    tf.saved_model.save(tf.Module(), str(folder / "1"), signatures={"serving_default": abort})
    config, output, ports = tmp_path / "models.config", tmp_path / "output.txt", (free_port(), free_port())
    config.write_text(model_config_text([ModelConfig("hp2", model_folders["hp2"]), ModelConfig("aborts", folder)]))
    with open(output, "wb") as file:
        command = [sys.executable, "-c", SERVER, str(config), *map(str, ports)]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=ENVIRONMENT)
    assert eventually(lambda: "page:" in output.read_text()), output.read_text()
    yield process, *ports, output
    process.kill()
    process.wait()


def test_a_crash_fails_only_the_requests_in_flight(crashing, eventually):
    process, rest, port, output = crashing
    url = f"http://127.0.0.1:{rest}/v1/models"

    def is_three():
        return requests.post(f"{url}/hp2:predict", json={"inputs": 2}, timeout=120).json() == {"outputs": 3.0}

    slow = {"signature_name": "spin", "inputs": {"steps": 2**31 - 1}}
    with ThreadPoolExecutor(1) as pool:
        in_flight = pool.submit(requests.post, f"{url}/hp2:predict", json=slow, timeout=120)
        assert is_three()
        with pytest.raises(requests.exceptions.ConnectionError):
            requests.post(f"{url}/aborts:predict", json={"inputs": -1}, timeout=120)
        with pytest.raises(requests.exceptions.ConnectionError):
            in_flight.result()
        assert eventually(lambda: output.read_text().count("page:") == 2)  # meanwhile, connections are not refused
        assert is_three()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "aborts"
            request.inputs["x"].CopyFrom(to_proto(np.float32(-1)))
            assert predict.future(request, timeout=120, wait_for_ready=True).code() is grpc.StatusCode.UNAVAILABLE
            request.inputs["x"].CopyFrom(to_proto(np.float32(1)))
            assert eventually(
                lambda: predict.future(request, timeout=120, wait_for_ready=True).code() is grpc.StatusCode.OK
            )
    process.terminate()
    assert process.wait(60) == 0
    assert output.read_text().count("the server crashed while running aborts, version 1") == 2
