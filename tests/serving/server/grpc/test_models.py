"""Metadata, status and reloading over gRPC: TensorFlow Serving's answers, codes and messages."""

import contextlib
import shutil
import socket

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.grpc.models import is_local
from keras_dl.serving.server.grpc.server import create_grpc_server
from keras_dl.serving.server.inference import Inference
from keras_dl.serving.server.metrics import Metrics
from keras_dl.serving.server.store import ModelStore


@pytest.fixture(scope="module")
def channel(grpc_address):
    with grpc.insecure_channel(grpc_address) as channel:
        yield channel


@contextlib.contextmanager
def serving(store, address="127.0.0.1:0", **options):
    """A ModelService stub of a separate server."""
    inference = Inference(store, Metrics())
    server, port = create_grpc_server(inference, address, **options)
    server.start()
    with grpc.insecure_channel(address if address.startswith("unix:") else f"127.0.0.1:{port}") as channel:
        yield model_service_pb2_grpc.ModelServiceStub(channel)
    server.stop(None).wait()
    inference.close(5)


def error_of(call, request):
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=30)
    return caught.value.code().name, caught.value.details()


# ---------------------------------------------------------------------------- metadata


def metadata_request(name="hp2", fields=("signature_def",), **spec):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = name
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    return request


def test_metadata_contains_the_signatures_of_the_file(channel, store):
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    response = stub.GetModelMetadata(metadata_request())
    assert (response.model_spec.name, response.model_spec.version.value) == ("hp2", 123)
    assert response.model_spec.signature_name == "" and set(response.metadata) == {"signature_def"}
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert dict(signatures.signature_def) == store.get("hp2").signatures


@pytest.mark.parametrize(
    "request_, code, text",
    [
        (get_model_metadata_pb2.GetModelMetadataRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (metadata_request(fields=()), "INVALID_ARGUMENT", "must specify at least one metadata_field"),
        (metadata_request(fields=["x"]), "INVALID_ARGUMENT", "Metadata field x is not supported"),
        (metadata_request(name=""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        (metadata_request(name="test"), "NOT_FOUND", "Servable not found for request: Latest(test)"),
        (metadata_request(version=7), "NOT_FOUND", "Servable not found for request: Specific(hp2, 7)"),
    ],
)
def test_invalid_metadata_requests_are_rejected(channel, request_, code, text):
    found, details = error_of(prediction_service_pb2_grpc.PredictionServiceStub(channel).GetModelMetadata, request_)
    assert found == code and text in details


# ---------------------------------------------------------------------------- status


def status_request(name="hp2", version=None, label=None):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = name
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    return request


@pytest.mark.parametrize("options", [{}, {"version": 123}, {"label": "ignored"}])
def test_status(channel, options):
    response = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status_request(**options))
    expected = "model_version_status { version: 123 state: AVAILABLE status { } }"
    assert response == text_format.Parse(expected, get_model_status_pb2.GetModelStatusResponse())


@pytest.mark.parametrize(
    "request_, code, text",
    [
        (get_model_status_pb2.GetModelStatusRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (status_request("nobody"), "NOT_FOUND", "Could not find any versions of model nobody"),
        (status_request(version=7), "NOT_FOUND", "Could not find version 7 of model hp2"),
    ],
)
def test_invalid_status_requests_are_rejected(channel, request_, code, text):
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    assert error_of(stub.GetModelStatus, request_) == (code, text)


def test_the_newest_version_is_first_and_a_broken_one_has_a_message(model_folders, tmp_path):
    shutil.copytree(model_folders["hp2"] / "123", tmp_path / "hp" / "1")
    (tmp_path / "hp" / "2").mkdir()
    with ModelStore([ModelConfig("hp", tmp_path / "hp")]) as store, serving(store) as stub:
        assert store.polled.wait(120)
        found = stub.GetModelStatus(status_request("hp")).model_version_status
    (broken,) = [status for status in found if status.version == 2]
    states = get_model_status_pb2.ModelVersionStatus.State
    assert states.Name(broken.state) == "END" and broken.status.error_code != 0
    assert broken.status.error_message and str(tmp_path) not in broken.status.error_message
    assert [status.version for status in found] == sorted((status.version for status in found), reverse=True)


# ---------------------------------------------------------------------------- configuration updates


def reload_request(*models, platform="tensorflow", metrics=()):
    request = model_management_pb2.ReloadConfigRequest(metric_names=metrics)
    for name, folder in models:
        request.config.model_config_list.config.add(name=name, base_path=str(folder), model_platform=platform)
    return request


@pytest.fixture
def root(tmp_path, model_folders):
    for name, version in (("first", "1"), ("second", "4")):
        shutil.copytree(model_folders["hp2"] / "123", tmp_path / "models" / name / version)
    return tmp_path / "models"


def test_a_new_configuration_is_loaded(root):
    with ModelStore([ModelConfig("first", root / "first")]) as store, serving(store, reload_root=root) as stub:
        assert store.polled.wait(120)
        response = stub.HandleReloadConfigRequest(reload_request(("second", root / "second"), metrics=["/a/b"]))
        assert response.status.error_code == 0 and response.status.error_message == ""
        assert [(metric.name, metric.int64_value_increase) for metric in response.metric] == [("/a/b", 0)]
        assert store.names() == ["second"]
        assert stub.GetModelStatus(status_request("second")).model_version_status[0].version == 4


def test_rejected_configurations_change_nothing(root, tmp_path):
    shutil.copytree(root / "first", tmp_path / "outside")
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "loop").symlink_to(root / "loop")
    good = ("first", root / "first")
    cases = [
        (reload_request(good, good), "INVALID_ARGUMENT", "Illegal to list model first multiple times in config list"),
        (reload_request(("m", "first")), "INVALID_ARGUMENT", "to have an absolute path or URI; got base_path()=first"),
        (reload_request(good, platform="caffe"), "INVALID_ARGUMENT", "platform caffe"),
        (
            model_management_pb2.ReloadConfigRequest(),
            "INVALID_ARGUMENT",
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently",
        ),
        (reload_request(good, ("m", tmp_path / "outside")), "PERMISSION_DENIED", "the base_path of model m is outside"),
        (reload_request(("m", root / ".." / "outside")), "PERMISSION_DENIED", "the base_path of model m is outside"),
        (reload_request(("m", root / "link")), "PERMISSION_DENIED", "the base_path of model m is outside"),
        (reload_request(("m", root / "loop")), "PERMISSION_DENIED", "the base_path of model m is outside"),
        (reload_request(("m", f"{root}/a\0b")), "PERMISSION_DENIED", "the base_path of model m is outside"),
        (reload_request(("m", f"{root}-too")), "PERMISSION_DENIED", "the base_path of model m is outside"),
    ]
    with ModelStore([ModelConfig("first", root / "first")]) as store, serving(store, reload_root=root) as stub:
        assert store.polled.wait(120)
        for request, code, text in cases:
            found, details = error_of(stub.HandleReloadConfigRequest, request)
            assert (found, text in details) == (code, True), details
        assert store.names() == ["first"] and not store.unavailable()


def test_a_model_that_cannot_be_loaded_is_reported(root):
    (root / "empty").mkdir()
    with ModelStore([ModelConfig("first", root / "first")]) as store, serving(store, reload_root=root) as stub:
        assert store.polled.wait(120)
        code, details = error_of(stub.HandleReloadConfigRequest, reload_request(("empty", root / "empty")))
        assert code == "UNKNOWN" and "did not become available" in details and str(root) not in details


def test_configurations_are_rejected_without_a_root(channel):
    stub = model_service_pb2_grpc.ModelServiceStub(channel)
    assert error_of(stub.HandleReloadConfigRequest, reload_request()) == (
        "PERMISSION_DENIED",
        "this server accepts no other configuration",
    )


@pytest.mark.parametrize(
    "peer, local",
    [
        ("ipv4:127.0.0.1:5000", True),
        ("ipv4:127.8.9.1:5000", True),
        ("ipv6:%5B::1%5D:5000", True),
        ("ipv6:[::1]:5000", True),
        ("ipv6:[::ffff:127.0.0.1]:5000", True),
        ("unix:", True),
        ("unix:/run/models", True),
        ("ipv4:10.0.0.1:5000", False),
        ("ipv4:128.0.0.1:5000", False),
        ("ipv6:[::ffff:10.0.0.1]:5000", False),
        ("ipv6:[2001:db8::1]:5000", False),
        ("ipv6:[fe80::1%25lo]:5000", False),
        ("vsock:2:5000", False),
        ("127.0.0.1:5000", False),
        ("ipv4:localhost:5000", False),
        ("", False),
    ],
)
def test_local_peers(peer, local):
    assert is_local(peer) is local


def test_a_peer_with_another_address_is_rejected(root):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing: finds the address of this machine
        address = probe.getsockname()[0]
    if address.startswith("127."):
        pytest.skip("this machine has only a loopback address")
    with ModelStore([ModelConfig("first", root / "first")]) as store:
        server, port = create_grpc_server(Inference(store, Metrics()), f"{address}:0", reload_root=root)
        server.start()
        with grpc.insecure_channel(f"{address}:{port}") as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            found = error_of(stub.HandleReloadConfigRequest, reload_request(("second", root / "second")))
        server.stop(None)
    assert found == ("PERMISSION_DENIED", "a configuration is accepted only from this machine")


def test_a_configuration_is_accepted_over_a_unix_socket(root, tmp_path):
    with ModelStore([]) as store, serving(store, f"unix:{tmp_path}/socket", reload_root=root) as stub:
        stub.HandleReloadConfigRequest(reload_request(("first", root / "first")))
        assert store.names() == ["first"]
