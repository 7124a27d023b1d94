"""The client against the real server."""

import subprocess
import sys

import numpy as np
import pytest
import requests

from keras_dl.errors import UserError
from keras_dl.serving.client import is_serving, predict
from keras_dl.serving.server.app import create_app
from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.inference import Inference
from keras_dl.serving.server.metrics import Metrics
from keras_dl.serving.server.store import ModelStore


def test_arrays_and_lists_of_numbers(url):
    features = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    outputs = predict(url, "sequences", {"features": features, "length": [3, 0]})
    np.testing.assert_array_equal(outputs["total"], [[6.0, 9.0], [0.0, 0.0]])
    assert outputs["total"].dtype == np.float64
    assert outputs["is_empty"].dtype == bool and outputs["is_empty"].tolist() == [False, True]


def test_a_single_output_has_its_name(url):
    outputs = predict(url + "/", "hp2", {"x": np.float32(0.2)}, version=123)
    assert list(outputs) == ["y"] and outputs["y"] == pytest.approx(2.1)
    outputs = predict(url, "hp2", {"x": [[1, 2, 3]]}, signature_name="product")
    np.testing.assert_array_equal(outputs["y"], [[6.0, 6.0]])


def test_numbers_that_are_none(url):
    outputs = predict(url, "hp2", {"x": [np.nan, np.inf, 1.0]})
    np.testing.assert_array_equal(outputs["y"], [np.nan, np.inf, 2.5])


@pytest.mark.parametrize(
    "text", [["wörld", b"a\0\xff"], ("wörld", b"a\0\xff"), np.array(["wörld", b"a\0\xff"], dtype=object)]
)
def test_strings_and_bytes(url, text):
    outputs = predict(url, "text", {"text": text})
    assert outputs["raw_bytes"] == ["wörld".encode(), b"a\0\xff"]
    assert outputs["upper"] == ["WöRLD", "A\0\ufffd"]
    assert outputs["length"].tolist() == [6, 3]
    assert predict(url, "text", {"text": text}, signature_name="joined") == {"joined": "wörlda\0\ufffd"}


def test_one_value_of_bytes(url):
    assert predict(url, "text", {"text": b"\0\xff"}, signature_name="same") == {"same_bytes": b"\0\xff"}


def test_the_servers_own_words(url):
    with pytest.raises(UserError, match=r"hp2: the server refused the request: .*Missing named input: x"):
        predict(url, "hp2", {"z": 1})
    with pytest.raises(UserError, match=r"Servable not found for request: Specific\(hp2, 5\)"):
        predict(url, "hp2", {"x": 1}, version=5)
    with pytest.raises(UserError, match=r"Servable not found for request: Latest\(\.\./hp2\)"):
        predict(url, "../hp2", {"x": 1})


def test_nobody_answers(free_port):
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(UserError, match=f"no server answers at {url}.*`keras-dl serve hp2`"):
        predict(url, "hp2", {"x": 1})
    assert not is_serving(url, "hp2")


def test_a_server_that_is_too_slow(url):
    with pytest.raises(UserError, match="within 0.2 seconds"):
        predict(url, "hp2", {"steps": 2**31 - 1}, signature_name="spin", timeout=0.2)


def test_a_url_that_is_none():
    with pytest.raises(UserError, match="expected a server's URL such as http://127.0.0.1:8501 and received"):
        predict("localhost 8501", "hp2", {"x": 1})


def test_another_kind_of_server(running):
    async def page(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": b"<html>"})

    with running(page) as url:
        with pytest.raises(UserError, match=r"expected TensorFlow Serving's JSON from .* and received 200, text/html"):
            predict(url, "hp2", {"x": 1})
        assert not is_serving(url, "hp2")


def test_is_serving_only_what_is_available(url, running, tmp_path):
    assert is_serving(url, "hp2")
    assert not is_serving(url, "foo")
    (tmp_path / "broken" / "1").mkdir(parents=True)
    store = ModelStore([ModelConfig("broken", tmp_path / "broken")])
    store.poll()
    with running(create_app(Inference(store, Metrics()))) as other:
        assert requests.get(f"{other}/v1/models/broken", timeout=30).status_code == 200
        assert not is_serving(other, "broken")


def test_the_client_needs_no_tensorflow():
    code = "import sys, keras_dl.serving.client; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0
