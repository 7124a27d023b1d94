"""Micro-batching of real models: right answers, fairness, bounds, deadlines, an orderly end."""

import gc
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
    """A real model that notes what it is asked, and waits for its gate first."""

    def predict(self, signature_name, inputs):
        self.began.set()
        assert self.gate.wait(20)
        self.runs.append({name: array.shape for name, array in inputs.items()})
        return super().predict(signature_name, inputs)


class Names:
    """What `Inference` itself asks of a store."""

    def names(self):
        return ["masked", "other", "checked"]


@pytest.fixture(scope="module")
def loaded(run_folders):
    """The three models, once: what varies is set by `gated`."""
    names = {"masked": "masked", "other": "masked", "checked": "checked"}
    return {name: Gated(name, 1, run_folders / folder) for name, folder in names.items()}


@pytest.fixture
def gated(loaded):
    """gated(name, open=True): the model with a gate; `runs` has the shapes of its runs."""
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
    """start(...): an `Inference` that runs one batch of a model at a time, closed at the end."""
    started = []

    def make(batching=Batching(num_threads=1), **options):  # noqa: B008
        started.append(Inference(Names(), Metrics(), batching, **options))
        return started[-1]

    yield make
    for inference in started:
        inference.close(0)


def features(length, rows=1, seed=0):
    return {"features": np.random.default_rng(seed + length).normal(size=(rows, length, 3)).astype(np.float32)}


def ask(inference, model, inputs, **options):
    return inference.submit(model, "serving_default", inputs, **options)


def hold(inference, model):
    """Keeps the model's batches waiting behind a request of its own until its gate opens."""
    future = ask(inference, model, features(1, rows=100))
    assert model.began.wait(20)
    return future


def check(futures, requests, model):
    for future, inputs in zip(futures, requests, strict=True):
        expected = LoadedModel.predict(model, "serving_default", inputs)
        answer = future.result(20)
        assert sorted(answer) == sorted(expected)
        for name, array in expected.items():
            np.testing.assert_allclose(answer[name], array, rtol=1e-4, atol=1e-5)


def test_ragged_requests_share_runs_and_get_the_answers_of_single_ones(start, gated):
    inference, model = start(), gated(is_open=False)
    first = hold(inference, model)
    requests = [features(length, rows) for length in (30, 31, 25, 32, 40, 33, 20, 28) for rows in (1, 3)]
    futures = [ask(inference, model, inputs) for inputs in requests]
    model.gate.set()
    check(futures, requests, model)
    assert first.result(20)["logits"].shape == (100, 1, 2)
    assert model.runs[1:] == [{"features": (32, 40, 3)}]


def test_a_batch_is_padded_by_no_more_than_it_may_be(start, gated):
    inference, model = start(), gated(is_open=False)
    hold(inference, model)
    requests = [features(length) for length in (10, 30, 31, 11, 12, 300)]
    futures = [ask(inference, model, inputs) for inputs in requests]
    model.gate.set()
    check(futures, requests, model)
    assert [run["features"][:2] for run in model.runs[1:]] == [(4, 31), (1, 11), (1, 300)]


def test_neighbours_do_not_see_each_other(start, gated):
    inference, model = start(), gated(is_open=False)
    hold(inference, model)
    quiet, loud = features(9), {"features": features(20)["features"] * 1e6}
    futures = [ask(inference, model, inputs) for inputs in (loud, quiet, loud)]
    model.gate.set()
    check(futures[1:2], [quiet], model)
    assert len(model.runs) == 2


@pytest.mark.parametrize("case", ["no batching", "no manifest", "a flood of rows"])
def test_others_run_alone(start, gated, case):
    inference = start(None if case == "no batching" else Batching(num_threads=1, max_batch_size=4))
    model = gated(is_open=False)
    if case == "no manifest":
        model.manifest = {}
    hold(inference, model)
    requests = [features(5, 5 if case == "a flood of rows" else 1, seed) for seed in range(3)]
    futures = [ask(inference, model, inputs) for inputs in requests]
    model.gate.set()
    check(futures, requests, model)
    assert len(model.runs) == 4


def test_a_batch_has_at_most_so_many_rows_and_the_oldest_request(start, gated):
    inference, model = start(Batching(num_threads=1, max_batch_size=4)), gated(is_open=False)
    hold(inference, model)
    futures = [ask(inference, model, features(5, rows)) for rows in (1, 2, 2, 1, 1, 4)]
    model.gate.set()
    wait(futures, 20)
    assert [run["features"][0] for run in model.runs[1:]] == [4, 3, 4]


def test_batches_are_filled_up_to_allowed_sizes(start, gated):
    inference = start(Batching(num_threads=1, max_batch_size=8, allowed_batch_sizes=(1, 4, 8)))
    model = gated(is_open=False)
    hold(inference, model)
    requests = [features(length) for length in (5, 6, 7)]
    futures = [ask(inference, model, inputs) for inputs in requests]
    model.gate.set()
    check(futures, requests, model)
    assert model.runs[1:] == [{"features": (4, 7, 3)}]
    assert b':padding_size_sum{execution_batch_size="4"} 1.0' in inference.metrics.render()


def test_a_batch_that_is_not_full_waits_if_told_so(start, gated):
    inference, model = start(Batching(num_threads=2, max_batch_size=3, timeout_micros=20_000_000)), gated()
    futures = [ask(inference, model, features(5)) for _ in range(2)]
    assert not wait(futures, 0.2).done
    futures.append(ask(inference, model, features(6)))
    wait(futures, 10)
    assert model.runs == [{"features": (3, 6, 3)}]
    inference = start(Batching(num_threads=1, max_batch_size=3, timeout_micros=1000))
    assert ask(inference, model, features(5)).result(20)


def test_one_bad_request_fails_alone(start, gated):
    inference, model = start(), gated("checked", is_open=False)
    held = ask(inference, model, {"x": np.ones([1, 2], np.float32)})
    assert model.began.wait(20)
    futures = [ask(inference, model, {"x": np.full([1, 2], value, np.float32)}) for value in [4, -1] + [9] * 14]
    model.gate.set()
    assert held.result(20)
    assert [future.result(20)["y"][0, 0] for future in futures[:1] + futures[2:]] == [2] + [3] * 14
    with pytest.raises(tf.errors.InvalidArgumentError, match="below zero"):
        futures[1].result(20)
    assert len(model.runs) == 1 + 9  # halves of halves, and not sixteen single runs


def test_many_requests_of_one_model_do_not_keep_another_waiting(start, gated):
    inference, flood, other = start(Batching(num_threads=1, max_batch_size=4)), gated(is_open=False), gated("other")
    hold(inference, flood)
    futures = [ask(inference, flood, features(length)) for length in [5] * 20 + [40 * n for n in range(1, 20)]]
    assert ask(inference, other, features(5)).result(20)
    assert not any(future.done() for future in futures)


def test_slow_runs_of_one_model_leave_a_thread_to_another(start, gated):
    inference, slow, other = start(None), gated(is_open=False), gated("other")
    futures = [ask(inference, slow, features(5)) for _ in range(50)]
    threading.Event().wait(0.2)  # all threads had the time to take one
    assert ask(inference, other, features(5)).result(20)
    assert not any(future.done() for future in futures)


def test_a_full_queue_refuses_at_once_and_recovers_and_is_of_one_model(start, gated):
    inference = start(Batching(num_threads=1, max_batch_size=2, max_enqueued_batches=2))
    model = gated(is_open=False)
    hold(inference, model)
    futures = [ask(inference, model, features(5), timeout_seconds=0.01) for _ in range(4)]
    assert all(isinstance(future.exception(20), tf.errors.DeadlineExceededError) for future in futures)
    assert all(ask(inference, model, features(5)).cancel() for _ in range(4))
    futures = [ask(inference, model, features(5)) for _ in range(5)]
    assert ask(inference, gated("other"), features(5)).result(20)
    text = "The batch scheduling queue to which this task was submitted is full"
    with pytest.raises(tf.errors.UnavailableError, match=text):
        futures[4].result(0)
    model.gate.set()
    assert all(future.result(20) for future in futures[:4])
    assert ask(inference, model, features(5)).result(20)


def test_what_is_late_is_answered_and_not_run(start, gated):
    inference, model = start(timeout_seconds=20), gated(is_open=False)
    held = hold(inference, model)
    waiting = ask(inference, model, features(5), timeout_seconds=0.05)
    with pytest.raises(tf.errors.DeadlineExceededError, match="while waiting in batching queue"):
        waiting.result(20)
    model.gate.set()
    held.result(20)
    assert ask(inference, model, features(5)).result(20)
    assert len(model.runs) == 2


def test_what_runs_too_long_is_answered_in_time(start, gated):
    inference, model = start(timeout_seconds=0.05), gated(is_open=False)
    with pytest.raises(tf.errors.DeadlineExceededError, match="Timed out"):
        ask(inference, model, features(5)).result(20)
    assert not model.runs  # it still waits for its gate
    model.gate.set()
    assert ask(inference, model, features(5), timeout_seconds=20).result(20)


def test_centuries_are_time_enough(start, gated):
    inference, model = start(), gated()
    assert ask(inference, model, features(5), timeout_seconds=1e10).result(20)
    with pytest.raises(tf.errors.DeadlineExceededError):  # the thread that looks at deadlines still does
        ask(inference, gated(is_open=False), features(5), timeout_seconds=0.01).result(20)


def test_the_cancelled_are_not_run(start, gated):
    inference, model = start(), gated(is_open=False)
    hold(inference, model)
    gone, stays = ask(inference, model, features(5)), ask(inference, model, features(50))
    assert gone.cancel()
    model.gate.set()
    stays.result(20)
    with pytest.raises(CancelledError):
        gone.result(0)
    assert [run["features"][1] for run in model.runs] == [1, 50]


def test_close_answers_what_has_begun_and_refuses_the_rest(start, gated):
    inference, model = start(), gated(is_open=False)
    futures = [hold(inference, model), ask(inference, model, features(5))]
    threading.Timer(0.1, model.gate.set).start()
    inference.close(20)
    assert all(future.result(0) for future in futures)
    with pytest.raises(tf.errors.UnavailableError, match="shutting down"):
        ask(inference, model, features(5)).result(0)


def test_close_gives_up_after_its_time(start, gated):
    inference, model = start(), gated(is_open=False)
    futures = [hold(inference, model), ask(inference, model, features(5))]
    inference.close(0.05)
    for future in futures:
        with pytest.raises(tf.errors.UnavailableError, match="shutting down"):
            future.result(0)


def test_runs_and_batches_are_counted(start, gated):
    inference, model = start(), gated()
    ask(inference, model, features(5), api="Classify").result(20)
    page = inference.metrics.render()
    assert b':runtime_latency_count{model_name="masked",API="Classify",runtime="TF1"} 1' in page
    assert b":batching_session:wrapped_run_count{} 1" in page


def test_a_model_that_was_unloaded_is_let_go(start, run_folders):
    inference, model = start(), LoadedModel("masked", 2, run_folders / "masked")
    ask(inference, model, features(5)).result(20)
    ended = weakref.ref(model)
    del model
    for _ in range(30):
        gc.collect()
        if ended() is None:
            break
        threading.Event().wait(0.01)
    assert ended() is None
