"""Health, readiness, draining, metrics, and routes outside TF Serving's API."""

import shutil

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.inference import Inference
from keras_dl.serving.server.metrics import Metrics
from keras_dl.serving.server.rest.app import create_app
from keras_dl.serving.server.store import ModelStore


@pytest.fixture(scope="module")
def server(model_folders, tmp_path_factory):
    """A store in which nothing is loaded yet, its application, and the folder of a model that is added later."""
    absent = tmp_path_factory.mktemp("absent") / "absent"
    store = ModelStore([ModelConfig("hp2", model_folders["hp2"]), ModelConfig("absent", absent)])
    inference = Inference(store, Metrics())
    yield store, create_app(inference), absent
    inference.close(5)


def get(url, path):
    response = requests.get(url + path, timeout=30)
    return response.status_code, response.json()


def test_health_and_readiness(running, server, model_folders):
    store, app, absent = server
    with running(app) as url:
        assert get(url, "/healthz") == (200, {"status": "ok"})
        assert get(url, "/readyz") == (503, {"error": "not available: hp2, absent"})
        store.poll()
        assert get(url, "/readyz") == (503, {"error": "not available: absent"})
        shutil.copytree(model_folders["text"], absent)
        store.poll()
        assert get(url, "/readyz") == (200, {"status": "ready"})
        app.state.draining.set()
        response = requests.get(f"{url}/readyz", timeout=30)
        assert (response.status_code, response.json()) == (503, {"error": "the server is shutting down"})
        assert response.headers["Retry-After"] == "1"
        assert get(url, "/healthz") == (200, {"status": "ok"})


def samples(url):
    text = requests.get(f"{url}/monitoring/prometheus/metrics", timeout=30).text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_requests_are_counted(url):
    # The parser appends "_total" to a counter's name.
    count, latency = ":tensorflow:serving:request_count_total", ":tensorflow:serving:request_latency_count"
    before = samples(url)
    base = f"{url}/v1/models"
    for _ in range(3):
        requests.post(f"{base}/hp2:predict", json={"inputs": 1}, timeout=30)
    requests.post(f"{base}/hp2:predict", json={}, timeout=30)
    requests.post(f"{base}/scores:regress", json={"examples": [{}]}, timeout=30)
    requests.get(f"{base}/hp2/versions/9", timeout=30)
    requests.get(f"{base}/no_such_model", timeout=30)
    after = samples(url)

    def more(*key):
        return after.get(key, 0) - before.get(key, 0)

    assert more(count, "hp2", "OK") == 3 and more(count, "hp2", "INVALID_ARGUMENT") == 1
    assert more(count, "hp2", "NOT_FOUND") == 1 and more(count, "", "NOT_FOUND") == 1
    assert more(latency, "hp2", "predict", "REST") == 3
    assert more(count, "scores", "OK") == more(latency, "scores", "regress", "REST") == 1


@pytest.mark.parametrize(
    "method, path, status",
    [
        ("POST", "/healthz", 405),
        ("DELETE", "/monitoring/prometheus/metrics", 405),
        ("OPTIONS", "/readyz", 405),
        ("GET", "/v2/models/hp2", 404),
        ("GET", "/healthz/", 404),
        ("POST", "/", 405),
    ],
)
def test_unknown_routes_and_methods_have_json_errors(send, method, path, status):
    received, answer = send(method, path, None)
    assert received == status and list(answer) == ["error"]


def test_head_and_preflight(url):
    for path, status in (("/healthz", 200), ("/v1/models/hp2", 400), ("/nothing", 404)):
        response = requests.head(url + path, timeout=30)
        assert (response.status_code, response.content) == (status, b"")
    response = requests.options(f"{url}/v1/models/hp2:predict", headers={"Origin": "http://example.org"}, timeout=30)
    assert (response.status_code, response.content) == (200, b"")
    assert not [name for name in response.headers if name.lower().startswith("access-control")]
