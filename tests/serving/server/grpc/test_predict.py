"""Predict over gRPC with the stubs of tensorflow-serving-api: TensorFlow Serving's answers, codes and messages."""

import threading
from concurrent.futures import Future

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from keras_dl.serving.server.grpc.server import create_grpc_server
from keras_dl.serving.server.inference import Inference
from keras_dl.serving.server.metrics import Metrics


@pytest.fixture(scope="module")
def stub(grpc_address):
    with grpc.insecure_channel(grpc_address) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def predict_request(name="hp2", inputs=None, signature_name="", version=None, label=None, outputs=()):
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name, request.model_spec.signature_name = name, signature_name
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    for key, value in ({"x": np.float32(2)} if inputs is None else inputs).items():
        is_message = isinstance(value, tensor_pb2.TensorProto)
        request.inputs[key].CopyFrom(value if is_message else tf.make_tensor_proto(value))
    return request


def error_of(call, request, **options):
    """Returns the code and the message of an error."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, **{"timeout": 30} | options)
    return caught.value.code().name, caught.value.details()


# ---------------------------------------------------------------------------- answers


def test_an_answer_has_the_fields_of_tf_serving(stub):
    response = stub.Predict(predict_request())
    assert list(response.outputs["y"].float_val) == [3.0] and not response.outputs["y"].tensor_content
    assert not response.outputs["y"].tensor_shape.dim
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("hp2", 123, "serving_default")


def test_a_signature_and_a_version_are_selected(stub):
    response = stub.Predict(predict_request(inputs={"x": np.ones((2, 3), np.float32)}, signature_name="product"))
    np.testing.assert_array_equal(tf.make_ndarray(response.outputs["y"]), np.full((2, 2), 3))
    assert response.model_spec.signature_name == "product"
    assert stub.Predict(predict_request(version=123)).model_spec.version.value == 123


def test_several_inputs_outputs_and_rows(stub):
    features = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    request = predict_request("sequences", {"features": features, "length": np.array([3, 0])})
    response = stub.Predict(request)
    np.testing.assert_array_equal(tf.make_ndarray(response.outputs["total"]), [[6, 9], [0, 0]])
    assert tf.make_ndarray(response.outputs["is_empty"]).tolist() == [False, True]
    request.output_filter.append("is_empty")
    assert set(stub.Predict(request).outputs) == {"is_empty"}


def test_strings(stub):
    response = stub.Predict(predict_request("text", {"text": np.array([b"a\xff\0", b""], object)}))
    assert list(response.outputs["raw_bytes"].string_val) == [b"a\xff\0", b""]
    assert response.outputs["length"].int_val == [3, 0]


# ---------------------------------------------------------------------------- errors


def test_a_request_without_a_model(stub):
    assert error_of(stub.Predict, predict_pb2.PredictRequest()) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    assert error_of(stub.Predict, predict_request("")) == ("INVALID_ARGUMENT", "ModelSpec has no name specified.")


@pytest.mark.parametrize(
    "options, code, text",
    [
        ({"name": "foo"}, "NOT_FOUND", "Servable not found for request: Latest(foo)"),
        ({"name": "../hp2"}, "NOT_FOUND", "Servable not found for request: Latest(../hp2)"),
        ({"version": 5}, "NOT_FOUND", "Servable not found for request: Specific(hp2, 5)"),
        ({"version": -1}, "NOT_FOUND", "Servable not found for request: Specific(hp2, -1)"),
        ({"label": "nope"}, "INVALID_ARGUMENT", "Unrecognized servable version label: nope"),
        ({"label": ""}, "INVALID_ARGUMENT", "Unrecognized servable version label: "),
        ({"signature_name": "nope"}, "FAILED_PRECONDITION", 'Serving signature key "nope" not found.'),
        ({"outputs": ["z"]}, "INVALID_ARGUMENT", "output tensor alias not found in signature: z Outputs expected to"),
        ({"outputs": ["y", "y"]}, "INVALID_ARGUMENT", "duplicate output tensor alias: y"),
        ({"inputs": {"x": True}}, "INVALID_ARGUMENT", "input x: expected float32. Received: bool of shape ()"),
        (
            {"inputs": {"x": np.float64(1)}},
            "INVALID_ARGUMENT",
            "input x: expected float32. Received: float64 of shape ()",
        ),
        ({"inputs": {"x": b"a"}}, "INVALID_ARGUMENT", "input x: expected float32. Received: string of shape ()"),
        (
            {"inputs": {"x": np.ones(3, np.float32)}, "signature_name": "product"},
            "INVALID_ARGUMENT",
            "input x: expected float32 of shape (None, 3). Received: shape (3,): nest it 1 level deeper",
        ),
    ],
)
def test_tf_servings_codes_and_messages(stub, options, code, text):
    found, details = error_of(stub.Predict, predict_request(**options))
    assert found == code and text in details


@pytest.mark.parametrize(
    "inputs, text",
    [
        (
            {},
            "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
        ),
        (
            {"b": 1, "a": 1},
            "input size does not match signature: 2!=1 len({a,b}) != len({x}). Sent extra: {a,b}. "
            "Missing but required: {x}.",
        ),
        (
            {"z": 1},
            "Signature input alias: x(feed name: serving_default_x:0) not found in request and no default value",
        ),
    ],
)
def test_missing_and_extra_inputs(stub, inputs, text):
    code, details = error_of(stub.Predict, predict_request(inputs=inputs))
    assert code == "INVALID_ARGUMENT" and details.startswith(text)


def test_the_name_of_an_invalid_input_is_reported(stub):
    inputs = {"features": np.zeros((1, 2, 2), np.float32), "length": np.array([1], np.int32)}
    assert error_of(stub.Predict, predict_request("sequences", inputs))[1] == (
        "input length: expected int64 of shape (None,). Received: int32 of shape (1,)"
    )


def test_a_tensor_that_does_not_fit_its_shape(stub):
    broken = tf.make_tensor_proto(np.zeros(3, np.float32))
    broken.tensor_shape.dim[0].size = 2**40
    code, details = error_of(stub.Predict, predict_request(inputs={"x": broken}))
    assert code == "INVALID_ARGUMENT" and details.startswith("tensor parsing error: x: expected ")
    bomb = tf.make_tensor_proto(1.0, shape=[2**19])
    assert error_of(stub.Predict, predict_request(inputs={"x": bomb}))[1] == (
        f"tensor parsing error: x: expected at most {2**20} bytes. Its shape takes {2**21}"
    )


def test_a_long_message_is_truncated(stub):
    code, details = error_of(stub.Predict, predict_request("ü" * 1000))
    assert code == "NOT_FOUND" and details.endswith("...TRUNCATED")
    assert 1020 < len(details.removesuffix("...TRUNCATED").encode()) <= 1024


def test_messages_that_are_too_large(stub):
    code, _ = error_of(stub.Predict, predict_request(inputs={"x": np.zeros(2**18, np.float32)}))
    assert code == "RESOURCE_EXHAUSTED"


def test_errors_contain_no_paths(stub):
    request = predict_request("reader", {"path": b"/nonexistent"})
    code, details = error_of(stub.Predict, request)
    assert code == "NOT_FOUND" and details == "the model failed to run; see the server's log"


def test_an_unexpected_error_has_no_details(store):
    class Broken(Inference):
        def submit(self, *arguments, **options):
            raise RuntimeError("secret")

    server, port = create_grpc_server(Broken(store, Metrics()), "127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        code, details = error_of(prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict, predict_request())
    server.stop(None)
    assert (code, details) == ("INTERNAL", "internal error; see the server's log for details")


# ---------------------------------------------------------------------------- deadlines


def test_a_call_past_the_clients_deadline_ends(stub):
    endless = predict_request(inputs={"steps": np.int32(2**31 - 1)}, signature_name="spin")
    assert error_of(stub.Predict, endless, timeout=0.2)[0] == "DEADLINE_EXCEEDED"
    assert stub.Predict(predict_request(), timeout=30)


def test_a_run_has_the_deadline_of_the_client_or_else_of_the_server(store):
    allowed = []

    class Watched(Inference):
        def submit(self, model, signature_name, inputs, timeout_seconds=None, api="Predict"):
            allowed.append(timeout_seconds)
            return super().submit(model, signature_name, inputs, timeout_seconds, api)

    inference = Watched(store, Metrics())
    server, port = create_grpc_server(inference, "127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        for timeout in (None, 1e9, 60):
            predict(predict_request(), timeout=timeout)
    server.stop(None)
    inference.close(5)
    assert allowed[:2] == [None, None] and 0 < allowed[2] < 65


def test_the_servers_deadline(stub):
    endless = predict_request(inputs={"steps": np.int32(2**31 - 1)}, signature_name="spin")
    assert error_of(stub.Predict, endless)[0] == "DEADLINE_EXCEEDED"


def test_cancelling_a_call_cancels_its_run(store, monkeypatch, eventually):
    inference, run, submitted = Inference(store, Metrics()), Future(), threading.Event()
    monkeypatch.setattr(inference, "submit", lambda *arguments, **options: submitted.set() or run)
    server, port = create_grpc_server(inference, "127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict.future(predict_request())
        assert submitted.wait(120)
        assert not run.cancelled()
        call.cancel()
        assert eventually(run.cancelled)
    server.stop(None)
    inference.close(0)


# ---------------------------------------------------------------------------- counted


def test_calls_are_counted_under_known_names_only(store):
    metrics = Metrics()
    server, port = create_grpc_server(Inference(store, metrics), "127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        stub.Predict(predict_request())
        error_of(stub.Predict, predict_request(signature_name="nope"))
        error_of(stub.Predict, predict_request("unheard-of"))
        error_of(stub.MultiInference, predict_pb2.PredictRequest())
    server.stop(None).wait()
    page = metrics.render().decode()
    assert ':tensorflow:serving:request_count{model_name="hp2",status="OK"} 1' in page
    assert ':tensorflow:serving:request_count{model_name="hp2",status="FAILED_PRECONDITION"} 1' in page
    assert "unheard-of" not in page
    assert 'model_name="hp2",API="Predict",entrypoint="GRPC"' in page
