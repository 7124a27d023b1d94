"""Micro-batching of real models: correct answers, fairness, limits, deadlines, draining."""

import math
import threading
import weakref
from concurrent.futures import CancelledError, wait

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.serving.server.batching import Batching
from keras_dl.serving.server.engine import LoadedModel
from keras_dl.serving.server.inference import Inference
from keras_dl.serving.server.metrics import Metrics


class Gated(LoadedModel):
    """A real model that waits for its gate before each run, and records the shapes of its runs."""

    def predict(self, signature_name, inputs):
        self.began.set()
        assert self.gate.wait(120)
        self.runs.append({name: array.shape for name, array in inputs.items()})
        return super().predict(signature_name, inputs)


class Names:
    """The part of a store that `Inference` uses."""

    def names(self):
        return ["masked", "other", "checked"]


@pytest.fixture(scope="module")
def loaded(run_folders):
    """The three models; `gated` resets them for each test."""
    names = {"masked": "masked", "other": "masked", "checked": "checked"}
    return {name: Gated(name, 1, run_folders / folder) for name, folder in names.items()}


@pytest.fixture
def gated(loaded):
    """gated(name, is_open=True): the model with a gate; `runs` contains the shapes of its runs."""
    used = []

    def make(name="masked", is_open=True):
        model = loaded[name]
        model.gate, model.began, model.runs = threading.Event(), threading.Event(), []
        if is_open:
            model.gate.set()
        recorded = {"rows_independent": True}
        if name != "checked":
            recorded |= {"padded_axes": {"features": [1]}, "cropped_axes": {"logits": 1}}
        model.manifest = {"signatures": {"serving_default": {"batching": recorded}}}
        used.append(model)
        return model

    yield make
    for model in used:
        model.gate.set()


@pytest.fixture
def start():
    """start(...): an `Inference` that runs one batch of a model at a time; it is closed after the test."""
    started = []

    def make(batching=Batching(num_threads=1), **options):  # noqa: B008
        started.append(Inference(Names(), Metrics(), batching, **{"timeout_seconds": 600.0} | options))
        return started[-1]

    yield make
    for inference in started:
        inference.close(0)


def features(length, rows=1, seed=0):
    return {"features": np.random.default_rng(seed + length).normal(size=(rows, length, 3)).astype(np.float32)}


def ask(inference, model, inputs, **options):
    return inference.submit(model, "serving_default", inputs, **options)


def occupy(inference, model):
    """Starts a run that keeps the model's other batches waiting until its gate opens."""
    future = ask(inference, model, features(1, rows=100))
    assert model.began.wait(120)
    return future


def expire(inference):
    """Moves the deadlines of all unanswered tasks to now."""
    with inference._deadlines:
        for task in inference._unanswered:
            task.deadline = 0.0
        inference._deadlines.notify()


def check(futures, requests, model):
    for future, inputs in zip(futures, requests, strict=True):
        expected = LoadedModel.predict(model, "serving_default", inputs)
        answer = future.result(120)
        assert sorted(answer) == sorted(expected)
        for name, array in expected.items():
            np.testing.assert_allclose(answer[name], array, rtol=1e-4, atol=1e-5)


def test_requests_of_different_lengths_share_a_run_and_get_correct_answers(start, gated):
    inference, model = start(), gated(is_open=False)
    first = occupy(inference, model)
    requests = [features(length, rows) for length in (30, 31, 25, 32, 40, 33, 20, 28) for rows in (1, 3)]
    futures = [ask(inference, model, inputs) for inputs in requests]
    model.gate.set()
    check(futures, requests, model)
    assert first.result(120)["logits"].shape == (100, 1, 2)
    assert model.runs[1:] == [{"features": (32, 40, 3)}]


def test_padding_of_a_batch_is_limited(start, gated):
    inference, model = start(), gated(is_open=False)
    occupy(inference, model)
    requests = [features(length) for length in (10, 30, 31, 11, 12, 300)]
    futures = [ask(inference, model, inputs) for inputs in requests]
    model.gate.set()
    check(futures, requests, model)
    assert [run["features"][:2] for run in model.runs[1:]] == [(4, 31), (1, 11), (1, 300)]


def test_requests_in_a_batch_do_not_affect_each_other(start, gated):
    inference, model = start(), gated(is_open=False)
    occupy(inference, model)
    quiet, loud = features(9), {"features": features(20)["features"] * 1e6}
    futures = [ask(inference, model, inputs) for inputs in (loud, quiet, loud)]
    model.gate.set()
    check(futures[1:2], [quiet], model)
    assert len(model.runs) == 2


@pytest.mark.parametrize("case", ["no batching", "no manifest", "too many rows"])
def test_other_requests_run_alone(start, gated, case):
    inference = start(None if case == "no batching" else Batching(num_threads=1, max_batch_size=4))
    model = gated(is_open=False)
    if case == "no manifest":
        model.manifest = {}
    occupy(inference, model)
    requests = [features(5, 5 if case == "too many rows" else 1, seed) for seed in range(3)]
    futures = [ask(inference, model, inputs) for inputs in requests]
    model.gate.set()
    check(futures, requests, model)
    assert len(model.runs) == 4


def test_a_batch_has_a_maximum_number_of_rows_and_starts_with_the_oldest_request(start, gated):
    inference, model = start(Batching(num_threads=1, max_batch_size=4)), gated(is_open=False)
    occupy(inference, model)
    futures = [ask(inference, model, features(5, rows)) for rows in (1, 2, 2, 1, 1, 4)]
    model.gate.set()
    wait(futures, 120)
    assert [run["features"][0] for run in model.runs[1:]] == [4, 3, 4]


def test_batches_are_filled_up_to_allowed_sizes(start, gated):
    inference = start(Batching(num_threads=1, max_batch_size=8, allowed_batch_sizes=(1, 4, 8)))
    model = gated(is_open=False)
    occupy(inference, model)
    requests = [features(length) for length in (5, 6, 7)]
    futures = [ask(inference, model, inputs) for inputs in requests]
    model.gate.set()
    check(futures, requests, model)
    assert model.runs[1:] == [{"features": (4, 7, 3)}]
    assert b':padding_size_sum{execution_batch_size="4"} 1.0' in inference.metrics.render()


def test_an_incomplete_batch_waits_for_the_timeout(start, gated):
    inference, model = start(Batching(num_threads=2, max_batch_size=3, timeout_micros=600_000_000)), gated()
    futures = [ask(inference, model, features(5)) for _ in range(2)]
    assert not wait(futures, 0.2).done
    futures.append(ask(inference, model, features(6)))
    wait(futures, 120)
    assert model.runs == [{"features": (3, 6, 3)}]
    inference = start(Batching(num_threads=1, max_batch_size=3, timeout_micros=1000))
    assert ask(inference, model, features(5)).result(120)


def test_one_bad_request_fails_alone(start, gated):
    inference, model = start(), gated("checked", is_open=False)
    first = ask(inference, model, {"x": np.ones([1, 2], np.float32)})
    assert model.began.wait(120)
    futures = [ask(inference, model, {"x": np.full([1, 2], value, np.float32)}) for value in [4, -1] + [9] * 14]
    model.gate.set()
    assert first.result(120)
    assert [future.result(120)["y"][0, 0] for future in futures[:1] + futures[2:]] == [2] + [3] * 14
    with pytest.raises(tf.errors.InvalidArgumentError, match="below zero"):
        futures[1].result(120)
    assert len(model.runs) == 1 + 9  # recursive halves, not sixteen single runs


def test_many_requests_to_one_model_do_not_delay_another(start, gated):
    inference, busy, other = start(Batching(num_threads=1, max_batch_size=4)), gated(is_open=False), gated("other")
    occupy(inference, busy)
    futures = [ask(inference, busy, features(length)) for length in [5] * 20 + [40 * n for n in range(1, 20)]]
    assert ask(inference, other, features(5)).result(120)
    assert not any(future.done() for future in futures)


def test_slow_runs_of_one_model_leave_a_thread_for_another(start, gated, eventually):
    inference, slow, other = start(None), gated(is_open=False), gated("other")
    futures = [ask(inference, slow, features(5)) for _ in range(50)]

    def has_started_all_allowed_runs():
        with inference._work:
            return inference._waiting.ready_at() == math.inf

    assert eventually(has_started_all_allowed_runs)
    assert ask(inference, other, features(5)).result(120)
    assert not any(future.done() for future in futures)


def test_a_full_queue_rejects_at_once_recovers_and_affects_one_model(start, gated):
    inference = start(Batching(num_threads=1, max_batch_size=2, max_enqueued_batches=2))
    model = gated(is_open=False)
    occupy(inference, model)
    futures = [ask(inference, model, features(5), timeout_seconds=0.01) for _ in range(4)]
    assert all(isinstance(future.exception(120), tf.errors.DeadlineExceededError) for future in futures)
    assert all(ask(inference, model, features(5)).cancel() for _ in range(4))
    futures = [ask(inference, model, features(5)) for _ in range(5)]
    assert ask(inference, gated("other"), features(5)).result(120)
    text = "The batch scheduling queue to which this task was submitted is full"
    with pytest.raises(tf.errors.UnavailableError, match=text):
        futures[4].result(0)
    model.gate.set()
    assert all(future.result(120) for future in futures[:4])
    assert ask(inference, model, features(5)).result(120)


def test_a_request_past_its_deadline_fails_without_a_run(start, gated):
    inference, model = start(), gated(is_open=False)
    first = occupy(inference, model)
    waiting = ask(inference, model, features(5), timeout_seconds=0.05)
    with pytest.raises(tf.errors.DeadlineExceededError, match="while waiting in batching queue"):
        waiting.result(120)
    model.gate.set()
    first.result(120)
    assert ask(inference, model, features(5)).result(120)
    assert len(model.runs) == 2


def test_a_run_past_its_deadline_fails_in_time(start, gated):
    inference, model = start(), gated(is_open=False)
    running = occupy(inference, model)
    expire(inference)
    with pytest.raises(tf.errors.DeadlineExceededError, match="Timed out"):
        running.result(120)
    assert not model.runs  # still waits for its gate
    model.gate.set()
    assert ask(inference, model, features(5)).result(120)


def test_a_deadline_centuries_away_is_accepted(start, gated):
    inference, model = start(), gated()
    assert ask(inference, model, features(5), timeout_seconds=1e10).result(120)
    with pytest.raises(tf.errors.DeadlineExceededError):  # the thread for deadlines is still alive
        ask(inference, gated(is_open=False), features(5), timeout_seconds=0.01).result(120)


def test_cancelled_requests_are_not_run(start, gated):
    inference, model = start(), gated(is_open=False)
    occupy(inference, model)
    cancelled, other = ask(inference, model, features(5)), ask(inference, model, features(50))
    assert cancelled.cancel()
    model.gate.set()
    other.result(120)
    with pytest.raises(CancelledError):
        cancelled.result(0)
    assert [run["features"][1] for run in model.runs] == [1, 50]


def test_close_waits_for_submitted_requests_and_rejects_new_ones(start, gated):
    inference, model = start(), gated(is_open=False)
    futures = [occupy(inference, model), ask(inference, model, features(5))]
    threading.Timer(0.1, model.gate.set).start()
    inference.close(120)
    assert all(future.result(0) for future in futures)
    with pytest.raises(tf.errors.UnavailableError, match="shutting down"):
        ask(inference, model, features(5)).result(0)


def test_close_rejects_the_remaining_requests_after_its_timeout(start, gated):
    inference, model = start(), gated(is_open=False)
    futures = [occupy(inference, model), ask(inference, model, features(5))]
    inference.close(0.05)
    for future in futures:
        with pytest.raises(tf.errors.UnavailableError, match="shutting down"):
            future.result(0)


def test_runs_and_batches_are_counted(start, gated):
    inference, model = start(), gated()
    ask(inference, model, features(5), api="Classify").result(120)
    page = inference.metrics.render()
    assert b':runtime_latency_count{model_name="masked",API="Classify",runtime="TF1"} 1' in page
    assert b":batching_session:wrapped_run_count{} 1" in page


def test_an_unloaded_model_is_freed(start, run_folders, eventually):
    inference, model = start(), LoadedModel("masked", 2, run_folders / "masked")
    ask(inference, model, features(5)).result(120)
    reference = weakref.ref(model)
    del model
    assert eventually(lambda: reference() is None)
