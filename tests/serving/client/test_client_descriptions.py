"""The client with metadata that changes, and with shapes and strings that JSON cannot represent."""

import contextlib
import json

import numpy as np
import pytest

from keras_dl.errors import UserError
from keras_dl.serving import Client


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
