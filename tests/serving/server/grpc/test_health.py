"""The health service, and creating a gRPC server."""

import shutil
import sys
import threading
from concurrent.futures import Future

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from keras_dl.errors import UserError
from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.grpc import server as grpc_server
from keras_dl.serving.server.grpc.server import create_grpc_server
from keras_dl.serving.server.inference import Inference
from keras_dl.serving.server.metrics import Metrics
from keras_dl.serving.server.store import ModelStore
from keras_dl.serving.tensors import to_proto

States = health_pb2.HealthCheckResponse


def check(stub, service, timeout=30):
    return States.ServingStatus.Name(stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=timeout).status)


@pytest.fixture
def incomplete(model_folders, tmp_path):
    """A store with an available and a missing model, and a health stub."""
    with ModelStore([ModelConfig("hp2", model_folders["hp2"]), ModelConfig("late", tmp_path / "late")], 0.1) as store:
        server, port = create_grpc_server(Inference(store, Metrics()), "127.0.0.1:0")
        server.start()
        assert store.polled.wait(120)
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield store, health_pb2_grpc.HealthStub(channel)
        server.stop(None).wait()


def test_available_models_and_services_are_serving(grpc_address):
    with grpc.insecure_channel(grpc_address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "hp2", "sequences", "ModelService", "PredictionService"):
            assert check(stub, service) == "SERVING"
        with pytest.raises(grpc.RpcError) as caught:
            check(stub, "foo")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_missing_model_is_not_serving(incomplete, model_folders, tmp_path, eventually):
    store, stub = incomplete
    assert [check(stub, service) for service in ("", "hp2", "late")] == ["NOT_SERVING", "SERVING", "NOT_SERVING"]
    shutil.copytree(model_folders["text"], tmp_path / "late")
    assert eventually(lambda: check(stub, "late") == "SERVING")
    assert check(stub, "") == "SERVING"


def test_watchers_are_notified(incomplete, model_folders):
    store, stub = incomplete
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="late"), timeout=60)
    assert next(watch).status == States.NOT_SERVING
    store.reload([ModelConfig("late", model_folders["text"])])
    assert next(watch).status == States.SERVING
    store.reload([ModelConfig("hp2", model_folders["hp2"])])
    assert next(watch).status == States.SERVICE_UNKNOWN
    watch.cancel()


def test_watchers_occupy_no_threads(incomplete):
    _, stub = incomplete
    watches = [stub.Watch(health_pb2.HealthCheckRequest(service=""), timeout=60) for _ in range(200)]
    assert all(next(watch).status == States.NOT_SERVING for watch in watches)
    assert check(stub, "hp2") == "SERVING"
    for watch in watches:
        watch.cancel()


def test_slow_calls_do_not_delay_status_requests(store, monkeypatch):
    monkeypatch.setattr(grpc_server, "_THREADS", 1)
    inference, submitted, never = Inference(store, Metrics()), threading.Event(), Future()
    monkeypatch.setattr(inference, "submit", lambda *arguments, **options: submitted.set() or never)
    server, port = create_grpc_server(inference, "127.0.0.1:0")
    server.start()
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "hp2"
    request.inputs["x"].CopyFrom(to_proto(np.float32(1)))
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "hp2"
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        slow = [predict.future(request) for _ in range(20)]
        assert submitted.wait(120)
        assert check(health_pb2_grpc.HealthStub(channel), "hp2", timeout=120) == "SERVING"
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="hp2"), timeout=120)
        assert next(watch).status == States.SERVING
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        assert models.GetModelStatus(status, timeout=120).model_version_status[0].version == 123
        assert not any(call.done() for call in slow)
    server.stop(None).wait()
    inference.close(0)


def test_the_health_thread_ends_with_the_server(model_folders, eventually):
    def threads():
        return {thread for thread in threading.enumerate() if thread.name == "grpc-health"}

    before = threads()
    server, _ = create_grpc_server(Inference(ModelStore([]), Metrics()), "127.0.0.1:0")
    server.start()
    (own,) = threads() - before
    server.stop(None)
    assert eventually(lambda: not own.is_alive())


def test_an_address_in_use_is_rejected():
    inference = Inference(ModelStore([]), Metrics())
    server, port = create_grpc_server(inference, "127.0.0.1:0")
    server.start()
    with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{port}: give a free port with --grpc-port"):
        create_grpc_server(inference, f"127.0.0.1:{port}")
    server.stop(None)


@pytest.mark.parametrize("missing", ["tensorflow_serving.apis", "grpc_health.v1"])
def test_missing_packages_are_reported(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=r"gRPC requires the grpc extra \(.*\): pip install 'keras-dl\[grpc\]'"):
        create_grpc_server(Inference(ModelStore([]), Metrics()), "127.0.0.1:0")
