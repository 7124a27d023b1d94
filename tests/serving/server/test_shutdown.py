"""Shutdown of the embedded server: notice period, error messages, and one deadline for both APIs."""

import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import requests
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from keras_dl.serving.configuration import model_config_text
from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.tensors import to_proto

States = health_pb2.HealthCheckResponse
SCRIPT = """
import asyncio, os, socket, sys, types
from pathlib import Path
from keras_dl.serving.server import run
from keras_dl.serving.server.source import ConfigFile
config, rest, grpc, seconds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
run._DRAIN_SECONDS = seconds
if os.sep in sys.argv[5]:
    async def notice(_):
        while not os.path.exists(sys.argv[5]):
            await asyncio.sleep(0.05)
    run.asyncio = types.SimpleNamespace(sleep=notice, get_running_loop=asyncio.get_running_loop)
else:
    run._NOTICE_SECONDS = float(sys.argv[5])
listener = socket.create_server(("127.0.0.1", rest))
sys.exit(run.run_embedded(ConfigFile(config), "127.0.0.1", listener, grpc, None))
"""


@pytest.fixture
def server(tmp_path, model_folders, free_port, eventually):
    """server(seconds, notice): a process that serves hp2 and drains for this many seconds; its ports and its output.

    Without `notice`, the notice period lasts until the file `end` exists in `tmp_path`.
    """
    started = []

    def start(seconds, notice=None):
        config, output, ports = tmp_path / "models.config", tmp_path / "output.txt", (free_port(), free_port())
        config.write_text(model_config_text([ModelConfig("hp2", model_folders["hp2"])]))
        ending = tmp_path / "end" if notice is None else notice
        command = [sys.executable, "-c", SCRIPT, config, *ports, seconds, ending]
        with open(output, "wb") as file:
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
            process = subprocess.Popen(list(map(str, command)), stdout=file, stderr=subprocess.STDOUT, env=environment)
        started.append(process)
        assert eventually(lambda: "page:" in output.read_text()), output.read_text()
        return process, *ports, output

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_requests_are_answered_during_the_notice_period(server, tmp_path, eventually):
    process, rest, port, output = server(600)
    url = f"http://127.0.0.1:{rest}"
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="hp2"), timeout=60)
        while next(watch).status != States.SERVING:
            pass
        process.terminate()
        assert eventually(lambda: requests.get(f"{url}/readyz", timeout=10).status_code == 503)
        assert requests.post(f"{url}/v1/models/hp2:predict", json={"instances": [2.0]}, timeout=10).json() == {
            "predictions": [3.0]
        }
        assert stub.Check(health_pb2.HealthCheckRequest(service=""), timeout=10).status == States.NOT_SERVING
        assert next(watch).status == States.NOT_SERVING
        (tmp_path / "end").touch()
        assert process.wait(60) == 0  # watchers do not block the shutdown
    assert "Traceback" not in output.read_text()


@pytest.mark.slow
def test_requests_that_do_not_finish_in_time_get_an_error(server):
    process, rest, _, output = server(4, notice=1)
    url = f"http://127.0.0.1:{rest}/v1/models/hp2:predict"
    body = {"signature_name": "spin", "inputs": {"steps": 2**31 - 1}}
    with ThreadPoolExecutor(1) as pool, socket.create_connection(("127.0.0.1", rest)) as slow:
        slow.sendall(b"POST /v1/models/hp2:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        answer = pool.submit(requests.post, url, json=body, timeout=30)
        time.sleep(0.3)
        process.terminate()
        assert answer.result().status_code == 503
        assert answer.result().json() == {"error": "the server is shutting down"}
        assert process.wait(60) == 0
        assert b"HTTP/1.1 503 " in slow.recv(4096)
    assert "Traceback" not in output.read_text()


@pytest.mark.slow
def test_grpc_calls_are_answered_after_rest_has_ended(server):
    process, _, port, _ = server(20, notice=0)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        spin = predict_pb2.PredictRequest()
        spin.model_spec.name, spin.model_spec.signature_name = "hp2", "spin"
        spin.inputs["steps"].CopyFrom(to_proto(np.int32(10_000)))
        calls = [predict.future(spin, timeout=60) for _ in range(150)]  # more than the number of threads
        time.sleep(1)
        process.terminate()
        assert [call.code() for call in calls] == [grpc.StatusCode.OK] * len(calls)
        assert process.wait(60) == 0
