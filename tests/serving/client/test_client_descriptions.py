"""What a client makes of a server's description of a model that changes, or of what JSON leaves out."""

import contextlib
import json

import numpy as np
import pytest

from keras_dl.errors import UserError
from keras_dl.serving import Client


def metadata(outputs):
    """The description of a model with the float input x and outputs `{name: (dtype, sizes)}`, None for an open rank."""
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
    """An application that tells the descriptions and gives the answer that stand in it, and counts what it is asked."""

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
    """asking(model): a client of a server of the model."""
    with contextlib.ExitStack() as stack:
        yield lambda model: stack.enter_context(Client(stack.enter_context(running(model))))


def test_the_description_is_asked_for_once(asking):
    model = Model({"y": ("DT_FLOAT", [-1])}, {"outputs": [1.0]})
    client = asking(model)
    for _ in range(3):
        assert client.predict("m", {"x": [1]})["y"].tolist() == [1.0]
    assert model.asked == ["metadata", "m:predict", "m:predict", "m:predict"]


def test_a_description_that_is_old_is_asked_for_again(asking, monkeypatch):
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
def test_an_answer_that_does_not_fit_the_description_has_it_asked_for_again(asking, outputs, answer, expected):
    model = Model({"y": ("DT_FLOAT", [-1])}, {"outputs": [1.0]})
    client = asking(model)
    client.predict("m", {"x": [1]})
    model.outputs, model.answer = outputs, {"outputs": answer}
    found = client.predict("m", {"x": [1]})
    assert {name: array.tolist() for name, array in found.items()} == expected
    assert model.asked.count("metadata") == 2


def test_an_answer_that_never_fits_is_told(asking):
    client = asking(Model({"y": ("DT_FLOAT", [-1]), "z": ("DT_FLOAT", [-1])}, {"outputs": {"y": [1.0]}}))
    with pytest.raises(UserError, match="m: the answer has other outputs than the server tells of signature serving_d"):
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
def test_shapes_of_nothing_are_those_of_the_description(asking, sizes, answer, shape):
    client = asking(Model({"y": ("DT_FLOAT", sizes)}, {"outputs": answer}))
    found = client.predict("m", {"x": [1]})["y"]
    assert found.shape == shape and found.dtype == np.float32


def test_texts_that_are_no_unicode(asking):
    """TensorFlow Serving writes them into JSON as they are."""
    model = Model({"y": ("DT_STRING", [-1])}, b'{"outputs": ["a", "\xff"]}')
    assert asking(model).predict("m", {"x": [1]})["y"].tolist() == ["a", b"\xff"]


def test_an_output_of_one_encoded_value(asking):
    model = Model({"raw_bytes": ("DT_STRING", [])}, {"outputs": {"b64": "AP8="}})
    assert asking(model).predict("m", {"x": [1]})["raw_bytes"].item() == b"\0\xff"
