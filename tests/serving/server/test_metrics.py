"""The metrics, parsed by Prometheus' own parser."""

import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from keras_dl.serving.server.metrics import Metrics


@pytest.fixture
def metrics():
    metrics = Metrics()
    metrics.follow(lambda: ["digits", 'odd "name"\\\n'])
    return metrics


def families(metrics):
    return {family.name: family for family in text_string_to_metric_families(metrics.render().decode())}


def values(family, suffix="_total"):
    """`{labels: value}` of the samples of a family; the parser appends "_total" to counters."""
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for sample in family.samples
        if sample.name == family.name + suffix
    }


def test_names_are_those_of_tensorflow_serving_without_total(metrics):
    metrics.request("digits", "Predict", "REST", "OK", 0.001)
    lines = metrics.render().decode().splitlines()
    assert "# TYPE :tensorflow:serving:request_count counter" in lines
    assert ':tensorflow:serving:request_count{model_name="digits",status="OK"} 1' in lines
    assert {name.removeprefix(":tensorflow:serving:"): family.type for name, family in families(metrics).items()} == {
        "request_count": "counter",
        "request_latency": "histogram",
        "runtime_latency": "histogram",
        "batching_session:input_batch_size": "histogram",
        "batching_session:processed_batch_size": "histogram",
        "batching_session:padding_size": "histogram",
        "batching_session:queuing_latency": "histogram",
        "batching_session:wrapped_run_count": "counter",
    }


def test_requests_are_counted_by_status_and_only_successful_ones_are_timed(metrics):
    for code, seconds in (("OK", 15e-6), ("OK", 20e-6), ("INVALID_ARGUMENT", 1.0)):
        metrics.request("digits", "Predict", "REST", code, seconds)
    found = families(metrics)
    assert values(found[":tensorflow:serving:request_count"]) == {
        (("model_name", "digits"), ("status", "OK")): 2,
        (("model_name", "digits"), ("status", "INVALID_ARGUMENT")): 1,
    }
    latency = found[":tensorflow:serving:request_latency"]
    labels = (("API", "predict"), ("entrypoint", "REST"), ("model_name", "digits"))
    assert values(latency, "_count") == {labels: 2}
    assert values(latency, "_sum") == {labels: pytest.approx(35)}
    buckets = {dict(labels)["le"]: count for labels, count in values(latency, "_bucket").items()}
    assert len(buckets) == 34
    assert [buckets[bound] for bound in ("10", "18", "32.4", "+Inf")] == [0, 1, 2, 2]
    assert list(buckets)[-2] == "1.47476e+09"  # 10 us x 1.8^32 with six digits


def test_other_apis_have_their_names_over_grpc_and_none_over_rest(metrics):
    for entrypoint in ("REST", "GRPC"):
        metrics.request("digits", "GetModelMetadata", entrypoint, "OK", 0.001)
    found = values(families(metrics)[":tensorflow:serving:request_latency"], "_count")
    assert {(dict(labels)["entrypoint"], dict(labels)["API"]) for labels in found} == {
        ("REST", ""),
        ("GRPC", "GetModelMetadata"),
    }


def test_the_runtime_is_labeled_tf1(metrics):
    metrics.runtime("digits", "Classify", 0.001)
    labels = (("API", "Classify"), ("model_name", "digits"), ("runtime", "TF1"))
    assert values(families(metrics)[":tensorflow:serving:runtime_latency"], "_sum") == {labels: 1000}


def test_unknown_names_create_no_labels_and_special_characters_are_escaped(metrics):
    for name in [f"guess-{number}" for number in range(100)] + ['odd "name"\\\n']:
        metrics.request(name, "Predict", "GRPC", "NOT_FOUND", 0.001)
    found = values(families(metrics)[":tensorflow:serving:request_count"])
    assert {dict(labels)["model_name"]: count for labels, count in found.items()} == {"": 100, 'odd "name"\\\n': 1}


def test_batches(metrics):
    metrics.batch([1, 2], 1, [150e-6, 10.0])
    found = families(metrics)
    prefix = ":tensorflow:serving:batching_session:"
    assert values(found[prefix + "input_batch_size"], "_sum") == {(): 3}
    assert values(found[prefix + "processed_batch_size"], "_sum") == {(): 4}
    assert values(found[prefix + "padding_size"], "_sum") == {(("execution_batch_size", "4"),): 1}
    assert values(found[prefix + "wrapped_run_count"]) == {(): 1}
    queuing = values(found[prefix + "queuing_latency"], "_count")
    assert queuing == {(("thread_pool_name", "batch_threads"),): 2}


def test_no_records_of_concurrent_threads_are_lost(metrics):
    def record():
        for _ in range(500):
            metrics.request("digits", "Predict", "REST", "OK", 0.001)
            metrics.render()

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(values(families(metrics)[":tensorflow:serving:request_count"]).values()) == [2000]
