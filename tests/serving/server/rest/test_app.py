"""The REST API over HTTP: TF Serving's examples and error messages, and no internal details."""

import math
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import requests
import tensorflow as tf

from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.inference import Inference
from keras_dl.serving.server.metrics import Metrics
from keras_dl.serving.server.rest.app import create_app
from keras_dl.serving.server.store import ModelStore

MODEL = "/v1/models/half_plus_two"


@pytest.mark.parametrize(
    "path, body, answer",
    [
        (":predict", {"instances": [[1.0], [3.0]]}, {"predictions": [[2.5], [3.5]]}),
        ("/versions/123:predict", {"instances": [{"x": [1.0]}]}, {"predictions": [[2.5]]}),
        ("/labels/stable:predict", {"instances": [[1.0]]}, {"predictions": [[2.5]]}),
        ("/versions/123:predict", {"signature_name": "serving_default", "inputs": [[3.0]]}, {"outputs": [[3.5]]}),
        (":regress", {"signature_name": "regress_x_to_y", "examples": [{"x": 80.0}]}, {"results": [42.0]}),
        ("/versions/123:regress", {"signature_name": "regress_x_to_y", "examples": [{"x": 80.0}]}, {"results": [42]}),
        ("/labels/stable:regress", {"signature_name": "regress_x_to_y", "examples": [{"x": 80.0}]}, {"results": [42]}),
        (":regress", {"signature_name": "regress_x_to_y2", "examples": [{"x": 2.0}] * 2}, {"results": [4.0, 4.0]}),
        (":classify", {"signature_name": "classify_x_to_y", "examples": [{"x": 20.0}]}, {"results": [[["", 12]]]}),
        (
            "/labels/stable:classify",
            {"signature_name": "classify_x_to_y", "examples": [{"x": 10.0}]},
            {"results": [[["", 7.0]]]},
        ),
        (
            ":regress",
            {"signature_name": "regress_x_to_y", "context": {"x": 8.0}, "examples": [{}, {"x": 80.0}]},
            {"results": [6.0, 42.0]},
        ),
    ],
)
def test_the_cases_of_tf_servings_handler(send, path, body, answer):
    assert send("POST", MODEL + path, body) == (200, answer)


@pytest.mark.parametrize(
    "path, body, answer",
    [
        (":predict", {"instances": [[1.0, 2.0], [3.0, 4.0]]}, {"predictions": [[2.5, 3.0], [3.5, 4.0]]}),
        (":predict", {"signature_name": "serving_default", "inputs": [3.0, 4.0]}, {"outputs": [3.5, 4.0]}),
        (":predict", {"instances": [2.0, 3.0, 4.0]}, {"predictions": [3.0, 3.5, 4.0]}),
        ("/versions/123:predict", {"instances": [1.0, 2.0]}, {"predictions": [2.5, 3.0]}),
        ("/versions/00123:predict", {"inputs": 2}, {"outputs": 3.0}),
        (":predict", {"signature_name": "product", "instances": [[1, 2, 3]]}, {"predictions": [[6.0, 6.0]]}),
    ],
)
def test_predict(send, path, body, answer):
    assert send("POST", f"/v1/models/hp2{path}", body) == (200, answer)


def test_numbers_beyond_the_precision_of_floats(send):
    status, answer = send("POST", "/v1/models/hp2:predict", {"instances": [1435774380]})
    assert status == 200 and answer["predictions"] == pytest.approx([717887168.0])
    status, answer = send("POST", "/v1/models/hp2:predict", '{"instances": [NaN, Infinity, 3, -Infinity]}')
    assert status == 200
    assert math.isnan(answer["predictions"][0]) and answer["predictions"][1:] == [math.inf, 3.5, -math.inf]


def test_predict_strings(send):
    body = {"instances": ["wörld", {"b64": "AP8="}]}
    assert send("POST", "/v1/models/text:predict", body) == (
        200,
        {
            "predictions": [
                {"upper": "WöRLD", "raw_bytes": {"b64": "d8O2cmxk"}, "length": 6},
                {"upper": "\0\ufffd", "raw_bytes": {"b64": "AP8="}, "length": 2},
            ]
        },
    )


def test_scalar_outputs_need_the_column_format(send):
    body = {"signature_name": "joined", "inputs": ["a", "b"]}
    assert send("POST", "/v1/models/text:predict", body) == (200, {"outputs": "ab"})
    body = {"signature_name": "joined", "instances": ["a", "b"]}
    status, answer = send("POST", "/v1/models/text:predict", body)
    assert status == 400 and "Tensor name: joined has no shape information" in answer["error"]


@pytest.mark.parametrize("steps", [1, 4])
def test_sequences_of_any_length(send, steps):
    body = {"inputs": {"features": [[[1, 2]] * steps, [[3, 4]] * steps], "length": [1, 0]}}
    answer = {"outputs": {"total": [[1.0, 2.0], [0.0, 0.0]], "is_empty": [False, True]}}
    assert send("POST", "/v1/models/sequences:predict", body) == (200, answer)


@pytest.mark.parametrize(
    "method, path, body, status, error",
    [
        ("GET", "/v1/foo", None, 400, "Malformed request: GET /v1/foo"),
        ("POST", "/v1/foo", {}, 400, "Malformed request: POST /v1/foo"),
        ("GET", "/v1/models/debug/model_name", None, 400, "Malformed request"),
        ("GET", "/v1/models/foo/version/50:predict", None, 400, "Malformed request"),
        ("POST", "/v1/models/foo/label/some_label:regress", {}, 400, "Malformed request"),
        ("POST", MODEL + "99:predict", {"instances": [1]}, 404, "Servable not found for request: Latest(half_plus"),
        (
            "POST",
            MODEL + ":predict",
            {"instances": ["x", "y"]},
            400,
            'input x: expected float32 of shape (None, 1). Received: "x" at instances[0]',
        ),
        ("POST", MODEL + ":predict", {"signature_name": 100}, 400, 'expected "signature_name" to be a string'),
        ("POST", MODEL + ":regress", {"examples": {"x": [1.0]}}, 400, 'expected "examples" to be a list'),
        ("POST", MODEL + ":classify", {"examples": [{"x": 1}], "signature_name": "no"}, 400, "with the name: no"),
        ("POST", MODEL + ":classify", {"examples": [{"x": 1.0}]}, 400, "No classification inputs found"),
        ("POST", MODEL + ":regress", {"examples": [{"x": 1.0}]}, 400, "No regression inputs found"),
        (
            "POST",
            MODEL + ":regress",
            {"signature_name": "regress_x2_to_y3", "examples": [{"x2": 1.0}]},
            400,
            "input inputs: expected float32 of shape (None, 1). Received: string of shape (1,)",
        ),
        # As in TF Serving, the model is looked up after the body has been parsed.
        ("POST", "/v1/models/foo:predict", "", 400, "expected a JSON object. Received: an empty body"),
        ("POST", "/v1/models/foo:classify", {"examples": []}, 400, "Received: an empty list"),
        ("POST", "/v1/models/foo:classify", {"examples": [{}]}, 404, "Servable not found for request: Latest(foo)"),
        ("GET", "/v1/models", None, 400, "Missing model name in request."),
        ("POST", "/v1/models", {}, 400, "Malformed request"),
        ("PUT", "/v1/models/hp2:predict", {}, 400, "Malformed request"),
        ("GET", "/v1/models/hp2:predict", None, 400, "Malformed request"),
        ("GET", "/v1/models/hp2/metadata/", None, 400, "Malformed request"),
        ("POST", "/v1/models/hp2/metadata", {}, 400, "Malformed request"),
        ("POST", "/v1/models/:predict", {}, 400, "Malformed request"),
        ("POST", "/v1/models/foo/version/50:regress", {}, 400, "Malformed request"),
        ("POST", "/v1/models/foo/versions/HELLO:regress", {}, 400, "Malformed request"),
        ("POST", "/v1/models/foo/versions/50/labels/some_label:regress", {}, 400, "Malformed request"),
        (
            "POST",
            "/v1/models/foo/versions/18446744073709551615:regress",
            {},
            400,
            "Failed to convert version: 18446744073709551615 to numeric.",
        ),
        ("GET", f"/v1/models/hp2/versions/{'9' * 5000}", None, 400, "Failed to convert version"),
        (
            "POST",
            "/v1/models/foo/versions/50:predict",
            {"instances": [1]},
            404,
            "Servable not found for request: Specific(foo, 50)",
        ),
        ("POST", "/v1/models/foo:predict", {"instances": [1]}, 404, "Servable not found for request: Latest(foo)"),
        ("POST", "/v1/models/hp2/versions/99:predict", {"instances": [1]}, 404, "Specific(hp2, 99)"),
        (
            "POST",
            "/v1/models/hp2/labels/nope:predict",
            {"instances": ["x"]},
            400,
            "Unrecognized servable version label: nope",
        ),
        ("POST", "/v1/models/hp2:predict", "", 400, "expected a JSON object. Received: an empty body"),
        (
            "POST",
            "/v1/models/hp2:predict",
            "instances = [1, 2]",
            400,
            "expected a JSON object. Received: Expecting value",
        ),
        ("POST", "/v1/models/hp2:predict", {}, 400, 'expected either "instances" or "inputs"'),
        ("POST", "/v1/models/hp2:predict", {"instances": [1], "inputs": [1]}, 400, "Received: both"),
        (
            "POST",
            "/v1/models/hp2:predict",
            {"instances": [[1, 2], [3, 4], [[5, 6]]]},
            400,
            "Received: a list of 1 item, not 2 as before it, at instances[2]",
        ),
        (
            "POST",
            "/v1/models/hp2:predict",
            {"instances": [{"x": 1}, [1, 20]]},
            400,
            "Received: a list of 2 items at instances[1]",
        ),
        ("POST", "/v1/models/hp2:predict", {"instances": 5}, 400, 'expected "instances" to be a list'),
        (
            "POST",
            "/v1/models/hp2:predict",
            {"signature_name": "nope", "instances": [1]},
            400,
            "expected a signature of the model: ",
        ),
        (
            "POST",
            "/v1/models/hp2:predict",
            {"instances": [{"z": 1}]},
            400,
            "Received: an object with the keys z at instances[0]",
        ),
        (
            "POST",
            "/v1/models/hp2:predict",
            {"instances": [None]},
            400,
            "input x: expected float32. Received: null at instances[0]",
        ),
        ("POST", "/v1/models/hp2:predict", '{"inputs": ' + "[" * 10**4, 400, "too many levels of lists and objects"),
        (
            "POST",
            "/v1/models/hp2:predict?x=1",
            {"inputs": 2},
            400,
            "Malformed request: POST /v1/models/hp2:predict?x=1",
        ),
        ("POST", "/v1/models/hp2:PREDICT", {"inputs": 2}, 400, "Malformed request: POST /v1/models/hp2:PREDICT"),
        ("POST", "/v1/models/hp2:predict/", {"inputs": 2}, 400, "Malformed request"),
        ("PATCH", "/v1/models/hp2", None, 400, "Malformed request: PATCH /v1/models/hp2"),
        ("OPTIONS", "/v1/models/hp2:predict", None, 400, "Origin header is missing in CORS preflight"),
        ("POST", "/v1/models/hp2:predict", {"signature_name": "half", "instances": [1]}, 400, "tensor type: half"),
        (
            "POST",
            "/v1/models/hp2:predict",
            {"signature_name": "product", "instances": [[1]]},
            400,
            "input x: expected float32 of shape (None, 3). Received: shape (1, 1): axis 1 must have size 3",
        ),
        ("GET", "/v1/models/hp2/versions/99", None, 404, "Could not find version 99 of model hp2"),
        ("GET", "/v1/models/foo", None, 404, "Could not find any versions of model foo"),
        ("GET", "/v1/models/foo/metadata", None, 404, "Servable not found for request: Latest(foo)"),
        ("GET", "/statuspage", None, 404, "Not Found"),
        ("GET", "/v1", None, 404, "Not Found"),
    ],
)
def test_errors(send, method, path, body, status, error):
    received, answer = send(method, path, body)
    assert received == status
    assert list(answer) == ["error"] and error in answer["error"]


@pytest.mark.parametrize(
    "name", ["..", "%2e%2e", "..%2Fhp2", "hp2%2F..%2Fhp2", "%2Fetc%2Fpasswd", "hp2%00", "%ff", "%ED%A0%80", "*"]
)
def test_names_are_never_used_as_paths(send, model_folders, name):
    for path in (f"/v1/models/{name}:predict", f"/v1/models/{name}/versions/1:predict"):
        status, answer = send("POST", path, {"instances": [1]})
        assert status == 404 and str(model_folders["hp2"].parent) not in answer["error"]
    assert send("GET", f"/v1/models/{name}")[0] == 404


def test_percent_encoded_names_are_decoded(send):
    assert send("POST", "/v1/models/%68p2:predict", {"inputs": 2}) == (200, {"outputs": 3.0})
    assert send("POST", "/V1/Models/hp2:predict", {"inputs": 2}) == (200, {"outputs": 3.0})


def test_a_slow_run_does_not_delay_other_requests(store, running, monkeypatch):
    inference, slow, submitted = Inference(store, Metrics()), Future(), threading.Event()
    submit = inference.submit

    def submit_or_wait(model, signature_name, inputs, **options):
        if signature_name != "spin":
            return submit(model, signature_name, inputs, **options)
        submitted.set()
        return slow

    monkeypatch.setattr(inference, "submit", submit_or_wait)
    body = {"signature_name": "spin", "inputs": {"steps": 1}}
    with running(create_app(inference)) as url, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(requests.post, f"{url}/v1/models/hp2:predict", json=body, timeout=120)
        assert submitted.wait(120)
        assert requests.get(f"{url}/healthz", timeout=120).status_code == 200
        assert requests.post(f"{url}/v1/models/hp2:predict", json={"inputs": 2}, timeout=120).json() == {"outputs": 3.0}
        assert not answer.done()
        slow.set_exception(tf.errors.DeadlineExceededError(None, None, "Timed out waiting for notification"))
        response = answer.result()
    inference.close(0)
    assert response.status_code == 504 and response.json() == {"error": "Timed out waiting for notification"}


def test_errors_contain_no_paths(send, url, tmp_path):
    path = str(tmp_path / "nothing")
    status, answer = send("POST", "/v1/models/reader:predict", {"inputs": path})
    assert status == 404 and answer == {"error": "the model failed to run; see the server's log"}


def test_an_unexpected_error_returns_500_without_details(running, model_folders):
    class BrokenStore(ModelStore):
        def get(self, name, version=None, label=None):
            raise KeyError("/a/secret/path")

    store = BrokenStore([ModelConfig("hp2", model_folders["hp2"])])
    with running(create_app(Inference(store, Metrics()))) as url:
        response = requests.post(f"{url}/v1/models/hp2:predict", json={"inputs": 2}, timeout=30)
    assert response.status_code == 500
    assert response.json() == {"error": "internal error; see the server's log for details"}
