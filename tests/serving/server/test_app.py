"""The REST API over the wire: TF Serving's own examples, its error texts, and what must never come out."""

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from keras_dl.serving.server.app import create_app
from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.inference import Inference
from keras_dl.serving.server.metrics import Metrics
from keras_dl.serving.server.store import ModelStore


@pytest.fixture
def send(url):
    """send(method, path, body): the status and the parsed answer; the path goes out as it is written."""

    def call(method, path, body=None):
        request = requests.Request(method, url, data=body if isinstance(body, str | bytes | None) else json.dumps(body))
        prepared = request.prepare()
        prepared.url = url + path  # prepare() would resolve ".." and decode %2e
        with requests.Session() as session:
            response = session.send(prepared, timeout=30)
        assert response.headers["Content-Type"] == "application/json"
        return response.status_code, json.loads(response.content or "null")

    return call


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


def test_numbers_that_floats_cannot_hold(send):
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
        ("POST", "/v1/models/hp2:predict", "", 400, "JSON Parse error: The document is empty"),
        ("POST", "/v1/models/hp2:predict", "instances = [1, 2]", 400, "JSON Parse error: Invalid value"),
        ("POST", "/v1/models/hp2:predict", {}, 400, "Missing 'inputs' or 'instances' key"),
        ("POST", "/v1/models/hp2:predict", {"instances": [1], "inputs": [1]}, 400, "Not formatted correctly"),
        (
            "POST",
            "/v1/models/hp2:predict",
            {"instances": [[1, 2], [3, 4], [[5, 6]]]},
            400,
            "Expecting shape [2] but got: [1,2]",
        ),
        (
            "POST",
            "/v1/models/hp2:predict",
            {"instances": [{"x": 1}, [1, 20]]},
            400,
            "Expecting object but got list at item 1 of input list",
        ),
        ("POST", "/v1/models/hp2:predict", {"instances": 5}, 400, "Expecting 'instances' to be an list/array"),
        (
            "POST",
            "/v1/models/hp2:predict",
            {"signature_name": "nope", "instances": [1]},
            400,
            'Serving signature name: "nope" not found in signature def',
        ),
        ("POST", "/v1/models/hp2:predict", {"instances": [{"z": 1}]}, 400, "does not have named input: z"),
        ("POST", "/v1/models/hp2:predict", {"instances": [None]}, 400, "Type: Null is not of expected type: float"),
        ("POST", "/v1/models/hp2:predict", '{"inputs": ' + "[" * 10**5, 400, "nested too deeply"),
        ("POST", "/v1/models/hp2:predict", {"signature_name": "half", "instances": [1]}, 400, "tensor type: half"),
        (
            "POST",
            "/v1/models/hp2:predict",
            {"signature_name": "product", "instances": [[1]]},
            400,
            "Matrix size-incompatible: In[0]: [1,1], In[1]: [3,2]",
        ),
        ("POST", "/v1/models/hp2:classify", {"examples": [{"x": 1}]}, 501, "classify is not served here"),
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
def test_a_name_is_never_a_path(send, model_folders, name):
    for path in (f"/v1/models/{name}:predict", f"/v1/models/{name}/versions/1:predict"):
        status, answer = send("POST", path, {"instances": [1]})
        assert status == 404 and str(model_folders["hp2"].parent) not in answer["error"]
    assert send("GET", f"/v1/models/{name}")[0] == 404


def test_percent_encoded_names_are_decoded(send):
    assert send("POST", "/v1/models/%68p2:predict", {"inputs": 2}) == (200, {"outputs": 3.0})
    assert send("POST", "/v1/models/hp2:predict?x=1", {"inputs": 2}) == (200, {"outputs": 3.0})


@pytest.mark.parametrize("path", ["/v1/models/hp2", "/v1/models/hp2/versions/123", "/v1/models/hp2/labels/any"])
def test_status(send, path):
    status = {"version": "123", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert send("GET", path) == (200, {"model_version_status": [status]})


@pytest.mark.parametrize("path", ["/v1/models/hp2/metadata", "/v1/models/hp2/versions/123/metadata"])
def test_metadata(send, path):
    status, answer = send("GET", path)
    assert status == 200
    assert answer["model_spec"] == {"name": "hp2", "signature_name": "", "version": "123"}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert "__saved_model_init_op" in signatures
    product = signatures["product"]
    assert product["method_name"] == "tensorflow/serving/predict"
    assert product["inputs"]["x"]["dtype"] == "DT_FLOAT"
    assert product["inputs"]["x"]["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}, {"size": "3", "name": ""}],
        "unknown_rank": False,
    }
    assert signatures["serving_default"]["inputs"]["x"]["tensor_shape"] == {"dim": [], "unknown_rank": True}
    assert send("GET", "/v1/models/hp2/labels/any/metadata")[0] == 400


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_413(url, chunked):
    body = b'{"instances": [' + b" " * 2**21 + b"1]}"
    response = requests.post(f"{url}/v1/models/hp2:predict", data=iter([body]) if chunked else body, timeout=30)
    assert response.status_code == 413
    assert response.json() == {"error": f"expected a body of at most 1048576 bytes and received {len(body)}"}
    assert requests.post(f"{url}/v1/models/hp2:predict", data=body[-10:], timeout=30).status_code == 400


def test_a_slow_model_is_504_and_others_are_answered_meanwhile(url):
    body = {"signature_name": "spin", "inputs": {"steps": 2**31 - 1}}
    with ThreadPoolExecutor(1) as pool:
        start = time.monotonic()
        slow = pool.submit(requests.post, f"{url}/v1/models/hp2:predict", json=body, timeout=30)
        time.sleep(0.2)
        assert requests.get(f"{url}/healthz", timeout=5).status_code == 200
        fast = requests.post(f"{url}/v1/models/hp2:predict", json={"inputs": 2}, timeout=5)
        assert fast.json() == {"outputs": 3.0} and not slow.done()
        response = slow.result()
    assert response.status_code == 504 and response.json() == {"error": "Timed out waiting for notification"}
    assert 0.9 < time.monotonic() - start < 5


def test_nothing_of_this_machine_comes_out(send, url, tmp_path):
    path = str(tmp_path / "nothing")
    status, answer = send("POST", "/v1/models/hp2:predict", {"signature_name": "read", "inputs": path})
    assert status == 404 and answer == {"error": "the model failed to run; the server's log says why"}


def test_an_error_nobody_expected_is_500_without_details(running, model_folders):
    class BrokenStore(ModelStore):
        def get(self, name, version=None, label=None):
            raise KeyError("/a/secret/path")

    store = BrokenStore([ModelConfig("hp2", model_folders["hp2"])])
    with running(create_app(Inference(store, Metrics()))) as url:
        response = requests.post(f"{url}/v1/models/hp2:predict", json={"inputs": 2}, timeout=30)
    assert response.status_code == 500
    assert response.json() == {"error": "internal error; the server's log has the details"}


def test_health_and_readiness(running, model_folders, tmp_path):
    store = ModelStore([ModelConfig("hp2", model_folders["hp2"]), ModelConfig("absent", tmp_path / "absent")])
    with running(create_app(Inference(store, Metrics()))) as url:
        assert requests.get(f"{url}/healthz", timeout=30).json() == {"status": "ok"}
        response = requests.get(f"{url}/readyz", timeout=30)
        assert (response.status_code, response.json()) == (503, {"error": "not available: hp2, absent"})
        store.poll()
        assert requests.get(f"{url}/readyz", timeout=30).json() == {"error": "not available: absent"}
        (tmp_path / "absent").symlink_to(model_folders["text"])
        store.poll()
        response = requests.get(f"{url}/readyz", timeout=30)
        assert (response.status_code, response.json()) == (200, {"status": "ready"})
