"""The client against real servers: the same requests and results over REST and gRPC."""

import contextlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from keras_dl.errors import UserError
from keras_dl.serving import Client


@pytest.fixture(scope="module", params=["REST", "gRPC"])
def client(request, url, grpc_address):
    with Client(url if request.param == "REST" else f"grpc://{grpc_address}", retries=0) as client:
        yield client


def test_arrays_and_lists_of_numbers(client):
    features = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    outputs = client.predict("sequences", {"features": features, "length": [3, 0]})
    np.testing.assert_array_equal(outputs["total"], [[6.0, 9.0], [0.0, 0.0]])
    assert outputs["total"].dtype == np.float32
    assert outputs["is_empty"].dtype == bool and outputs["is_empty"].tolist() == [False, True]


def test_a_single_output_keeps_its_name(client):
    outputs = client.predict("hp2", {"x": 0.2}, version=123)
    assert list(outputs) == ["y"] and outputs["y"] == np.float32(2.1) and outputs["y"].shape == ()
    outputs = client.predict("hp2", {"x": [[1, 2, 3]]}, signature_name="product")
    np.testing.assert_array_equal(outputs["y"], [[6.0, 6.0]])


def test_the_only_input_needs_no_name(client):
    assert client.predict("hp2", {"": [2.0, 4.0]})["y"].tolist() == [3.0, 4.0]


def test_a_version_is_selected_by_label(client):
    assert client.predict("half_plus_two", {"x": [[2.0]]}, label="stable")["y"].tolist() == [[3.0]]
    with pytest.raises(UserError, match="Unrecognized servable version label: nope"):
        client.predict("half_plus_two", {"x": [2.0]}, label="nope")
    with pytest.raises(UserError, match="expected a version or a label, not both. Received: version 1 and label 'a'"):
        client.predict("half_plus_two", {"x": [2.0]}, version=1, label="a")


def test_nan_and_infinity(client):
    outputs = client.predict("hp2", {"x": [np.nan, np.inf, 1.0, -np.inf]})
    np.testing.assert_array_equal(outputs["y"], np.array([np.nan, np.inf, 2.5, -np.inf], np.float32))


@pytest.mark.parametrize(
    "text", [["wörld", b"a\0\n"], ("wörld", b"a\0\n"), np.array(["wörld", b"a\0\n"], dtype=object)]
)
def test_strings_and_bytes(client, text):
    outputs = client.predict("text", {"text": text})
    assert outputs["raw_bytes"].tolist() == ["wörld".encode(), b"a\0\n"]
    assert outputs["upper"].tolist() == ["WöRLD", "A\0\n"] and outputs["upper"].dtype == object
    assert outputs["length"].tolist() == [6, 3]
    joined = client.predict("text", {"text": text}, signature_name="joined")["joined"]
    assert joined.shape == () and joined.item() == "wörlda\0\n"


def test_bytes_that_are_not_utf8(client):
    assert client.predict("text", {"text": b"\0\xff"}, signature_name="same")["same_bytes"].item() == b"\0\xff"


def test_classify_and_regress(client):
    examples = [{"x": 2.0}, {"x": np.array([-4.0]), "locale": "pt_BR", "ages": [1, 2], "raw": b"\xff"}]
    assert client.classify("scores", examples, "classify_sign") == [
        [("positive", 2.0), ("negative", -2.0)],
        [("negative", 4.0), ("positive", -4.0)],
    ]
    values = client.regress("scores", examples, "regress_x_to_y")
    assert values.dtype == np.float32 and values.tolist() == [3.0, 0.0]
    assert client.regress("scores", [{"x": 0.2}]).tolist() == [np.float32(2.1)]
    with pytest.raises(UserError, match="scores: feature x of example 1: expected a value or a list of values. Rec"):
        client.regress("scores", [{"x": 1.0}, {"x": [[1.0]]}])


def test_status_and_metadata(client):
    (status,) = client.status("hp2")
    assert status == (123, "AVAILABLE", "OK", "") and status.version == 123
    assert client.metadata("sequences")["serving_default"] == {
        "inputs": {
            "features": {"dtype": "float32", "shape": [None, None, 2]},
            "length": {"dtype": "int64", "shape": [None]},
        },
        "outputs": {"is_empty": {"dtype": "bool", "shape": [None]}, "total": {"dtype": "float32", "shape": [None, 2]}},
    }
    described = client.metadata("hp2", version=123)
    assert described["serving_default"]["inputs"] == {"x": {"dtype": "float32", "shape": None}}
    assert described["spin"]["inputs"] == {"steps": {"dtype": "int32", "shape": []}}
    assert client.metadata("echo")["float16"]["outputs"]["y"]["dtype"] == "float16"
    with pytest.raises(UserError, match="Could not find any versions of model foo"):
        client.status("foo")
    with pytest.raises(UserError, match=r"Servable not found for request: Specific\(hp2, 5\)"):
        client.metadata("hp2", version=5)


def test_is_available(client):
    assert client.is_available("hp2")
    assert not client.is_available("foo")


@pytest.mark.parametrize(
    "name, inputs, options, message",
    [
        ("hp2", {"z": 1}, {}, r"hp2: the server refused the request: .*\bx\b"),
        ("hp2", {"x": 1}, {"version": 5}, r"Servable not found for request: Specific\(hp2, 5\)"),
        ("../hp2", {"x": 1}, {}, r"Servable not found for request: Latest\(\.\./hp2\)"),
        ("hp2", {"x": 1}, {"signature_name": "nope"}, r'signature.*"nope"'),
        (
            "hp2",
            {"x": [1, 2]},
            {"signature_name": "product"},
            r"hp2: the server refused the request: input x: expected float32 of shape \(None, 3\)",
        ),
    ],
)
def test_errors_contain_the_servers_message(client, name, inputs, options, message):
    with pytest.raises(UserError, match=message):
        client.predict(name, inputs, **options)


def test_many_threads_share_a_client(client):
    answers = {}

    def ask(number):
        answers[number] = [client.predict("hp2", {"x": [number]})["y"].tolist() for _ in range(10)]

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(16)))
    assert answers == {number: [[number / 2 + 2]] * 10 for number in range(16)}


def test_a_request_beyond_the_servers_limit_times_out(client):
    with pytest.raises(UserError, match="timed out: the client waits 30 seconds; the server may allow less"):
        client.predict("hp2", {"steps": 2**31 - 1}, signature_name="spin")


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_request_beyond_the_clients_limit_times_out(scheme, url, grpc_address):
    address = url if scheme == "http" else f"grpc://{grpc_address}"
    with Client(address, timeout=0.3) as client, pytest.raises(UserError, match="timed out: the client waits 0.3 seco"):
        client.predict("hp2", {"steps": 2**31 - 1}, signature_name="spin")


def test_importing_the_client_does_not_import_tensorflow():
    code = "import sys, keras_dl.serving; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0


def metadata(outputs):
    """Metadata of a model with the float input x and outputs `{name: (dtype, sizes)}`; None for an unknown rank."""
    infos = {
        name: {
            "dtype": dtype,
            "tensor_shape": {"dim": [{"size": str(size)} for size in sizes or []], "unknown_rank": sizes is None},
        }
        for name, (dtype, sizes) in outputs.items()
    }
    inputs = {"x": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}], "unknown_rank": False}}}
    signature = {"inputs": inputs, "outputs": infos, "method_name": "tensorflow/serving/predict"}
    return {"metadata": {"signature_def": {"signature_def": {"serving_default": signature}}}}


class Model:
    """An ASGI application that sends metadata of `outputs` and the answer, and records the requests."""

    def __init__(self, outputs, answer):
        self.outputs, self.answer, self.asked = outputs, answer, []

    async def __call__(self, scope, receive, send):
        path = scope["path"]
        self.asked.append(path.rpartition("/")[2])
        content = self.answer if path.endswith(":predict") else metadata(self.outputs)
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def asking(running):
    """asking(model): a client connected to a server of the model."""
    with contextlib.ExitStack() as stack:
        yield lambda model: stack.enter_context(Client(stack.enter_context(running(model))))


def test_metadata_is_requested_once(asking):
    model = Model({"y": ("DT_FLOAT", [-1])}, {"outputs": [1.0]})
    client = asking(model)
    for _ in range(3):
        assert client.predict("m", {"x": [1]})["y"].tolist() == [1.0]
    assert model.asked == ["metadata", "m:predict", "m:predict", "m:predict"]


def test_old_metadata_is_requested_again(asking, monkeypatch):
    model = Model({"y": ("DT_FLOAT", [-1])}, {"outputs": [1]})
    client = asking(model)
    client.predict("m", {"x": [1]})
    monkeypatch.setattr("keras_dl.serving.client.client._METADATA_SECONDS", -1.0)
    model.outputs = {"z": ("DT_INT64", [-1])}
    assert client.predict("m", {"x": [1]})["z"].dtype == np.int64


@pytest.mark.parametrize(
    "outputs, answer, expected",
    [
        ({"y": ("DT_FLOAT", [-1]), "z": ("DT_INT32", [-1])}, {"y": [1.5], "z": [2]}, {"y": [1.5], "z": [2]}),
        ({"text": ("DT_STRING", [-1])}, ["a"], {"text": ["a"]}),
    ],
)
def test_metadata_is_requested_again_for_an_answer_that_does_not_match(asking, outputs, answer, expected):
    model = Model({"y": ("DT_FLOAT", [-1])}, {"outputs": [1.0]})
    client = asking(model)
    client.predict("m", {"x": [1]})
    model.outputs, model.answer = outputs, {"outputs": answer}
    found = client.predict("m", {"x": [1]})
    assert {name: array.tolist() for name, array in found.items()} == expected
    assert model.asked.count("metadata") == 2


def test_an_answer_that_never_matches_is_an_error(asking):
    client = asking(Model({"y": ("DT_FLOAT", [-1]), "z": ("DT_FLOAT", [-1])}, {"outputs": {"y": [1.0]}}))
    with pytest.raises(UserError, match="m: the outputs of the answer do not match the server's metadata of serving_d"):
        client.predict("m", {"x": [1]})


@pytest.mark.parametrize(
    "sizes, answer, shape",
    [
        ([-1], [], (0,)),
        ([-1, 2], [], (0, 2)),
        ([-1, -1, 4], [], (0, 0, 4)),
        ([-1, -1, 4], [[], []], (2, 0, 4)),
        ([2, 0], [[], []], (2, 0)),
        (None, [], (0,)),
        (None, [[1.0]], (1, 1)),
        ([], 1.0, ()),
    ],
)
def test_empty_arrays_have_the_shape_of_the_metadata(asking, sizes, answer, shape):
    client = asking(Model({"y": ("DT_FLOAT", sizes)}, {"outputs": answer}))
    found = client.predict("m", {"x": [1]})["y"]
    assert found.shape == shape and found.dtype == np.float32


def test_strings_that_are_not_utf8(asking):
    """TensorFlow Serving writes them to JSON unchanged."""
    model = Model({"y": ("DT_STRING", [-1])}, b'{"outputs": ["a", "\xff"]}')
    assert asking(model).predict("m", {"x": [1]})["y"].tolist() == ["a", b"\xff"]


def test_a_scalar_output_in_base64(asking):
    model = Model({"raw_bytes": ("DT_STRING", [])}, {"outputs": {"b64": "AP8="}})
    assert asking(model).predict("m", {"x": [1]})["raw_bytes"].item() == b"\0\xff"
