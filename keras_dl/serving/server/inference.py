"""Runs models for REST and gRPC: micro-batching with a bounded queue, deadlines, and draining.

A free thread takes the waiting requests. While a batch runs, the next one accumulates: batches grow with the load, and
a single request runs immediately.
"""

import functools
import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, InvalidStateError

import numpy as np
import tensorflow as tf

from keras_dl.serving.server.batching import Batching
from keras_dl.serving.server.inputs import check_inputs
from keras_dl.serving.server.metrics import Metrics
from keras_dl.serving.server.queue import Task, WaitingTasks
from keras_dl.serving.server.sharing import Sharing, find_sharing

logger = logging.getLogger(__name__)

_DEFAULT = Batching()
_LEAST_THREADS = 4
_LONGEST_SECONDS = 24 * 3600  # a gRPC call without a deadline reports centuries, and no thread can wait that long
# Errors that do not depend on a single request: all others in the batch would fail, and so would another run.
_COMMON_ERRORS = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.UnavailableError,
)
# TensorFlow Serving's messages.
_RAN_TOO_LONG = "Timed out waiting for notification"
_WAITED_TOO_LONG = "Run() timeout exceeded while waiting in batching queue"


class Inference:
    """Answers requests to loaded models on its own threads. Thread-safe.

    Args:
        store: `ModelStore`, for the REST and gRPC APIs.
        metrics: where runs are recorded.
        batching: how requests are batched. None: each request runs alone.
        timeout_seconds: maximum duration of a request without its own deadline.
    """

    def __init__(self, store, metrics: Metrics, batching: Batching | None = _DEFAULT, timeout_seconds: float = 30.0):
        self.store, self.metrics = store, metrics
        self._batching, limits = batching, batching or _DEFAULT
        self._timeout_seconds = timeout_seconds
        self._most_waiting = limits.max_batch_size * limits.max_enqueued_batches
        # More than the concurrent batches of one model, which must not block other models and requests that run alone.
        threads = max(limits.num_threads + 1, _LEAST_THREADS, os.cpu_count() or 1)
        seconds = limits.timeout_micros * 1e-6
        self._waiting = WaitingTasks(
            limits.max_batch_size, limits.max_padding, limits.num_threads, threads - 1, seconds
        )
        self._unanswered: set[Task] = set()  # the thread that removes a task answers it
        self._sharings: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        self._closed = False
        lock = threading.Lock()
        self._work = threading.Condition(lock)
        self._answered = threading.Condition(lock)
        self._deadlines = threading.Condition(lock)
        self._next_deadline = math.inf
        metrics.follow(store.names)
        for target in [self._run] * threads + [self._watch_deadlines]:
            threading.Thread(target=target, name="inference", daemon=True).start()

    def submit(
        self,
        model,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        timeout_seconds: float | None = None,
        api: str = "Predict",
    ) -> Future:
        """Submits a run of a signature; never blocks.

        Args:
            model: `LoadedModel` of the store.
            signature_name: name of a signature of the model.
            inputs: an array for every input of the signature.
            timeout_seconds: deadline of the answer. Defaults to None: the server's timeout.
            api: method under which the runtime is recorded: "Predict", "Classify" or "Regress".

        Returns:
            A future of `{output name: array}`. Canceling it while it waits removes the request from the queue. It
            fails with UnavailableError if the model's queue is full or the server is shutting down, with
            DeadlineExceededError after the deadline, and with the model's tf.errors.OpError if the graph rejects the
            input or fails.

        Raises:
            tf.errors.InvalidArgumentError: if the dtype or shape of an input does not fit the signature.
        """
        check_inputs(model.inputs[signature_name], inputs)
        now = time.monotonic()
        deadline = now + min(_LONGEST_SECONDS, self._timeout_seconds if timeout_seconds is None else timeout_seconds)
        sharing = self._sharing(model, signature_name)
        key = sharing and sharing.key(inputs)
        if key is None:
            sharing, key, rows, length = None, object(), 1, 0
        else:
            key, rows = (model, signature_name, key), next(iter(inputs.values())).shape[0]
            length = sharing.length(inputs)
        task = Task(model, signature_name, inputs, sharing, key, rows, length, api, now, deadline, Future())
        # A weak reference avoids a cycle that would keep the arrays until the next garbage collection.
        task.future.add_done_callback(functools.partial(self._forget, weakref.ref(task)))
        with self._work:
            if self._closed:
                problem = "the server is shutting down"
            elif self._waiting.count(model.name) >= self._most_waiting:
                problem = (
                    "The batch scheduling queue to which this task was submitted is full; "
                    f"currently {self._most_waiting} requests are waiting"
                )
            else:
                problem = None
                self._unanswered.add(task)
                if self._waiting.add(task):
                    self._work.notify()  # otherwise a thread that runs a batch of the model takes it next
                if deadline < self._next_deadline:
                    self._next_deadline = deadline
                    self._deadlines.notify()
        if problem:
            task.future.set_exception(tf.errors.UnavailableError(None, None, problem))
        return task.future

    def close(self, seconds: float) -> None:
        """Rejects new requests and waits until all others are answered; rejects those left after the given seconds."""
        with self._work:
            self._closed = True
            self._answered.wait_for(lambda: not self._unanswered, seconds)
            left = list(self._unanswered)
        self._fail(left, tf.errors.UnavailableError(None, None, "the server is shutting down"))
        with self._work:  # the threads end
            self._work.notify_all()
            self._deadlines.notify()

    def _forget(self, cancelled: weakref.ref[Task], future: Future) -> None:
        """Takes a request out of the queue if it was canceled."""
        task = cancelled() if future.cancelled() else None
        if task is not None:
            with self._work:
                self._waiting.remove(task)
                self._unanswered.discard(task)
                self._answered.notify_all()

    def _sharing(self, model, signature_name: str) -> Sharing | None:
        if self._batching is None:
            return None
        cached = self._sharings.setdefault(model, {})
        if signature_name not in cached:
            cached[signature_name] = find_sharing(model, signature_name, self._batching.every_signature)
        return cached[signature_name]

    def _run(self) -> None:
        while tasks := self._next_tasks():
            try:
                self._run_batch(tasks)
            except Exception as error:  # no error of a model may end the thread
                logger.exception("a run of model %s failed", tasks[0].model.name)
                self._fail(tasks, error)
            with self._work:
                self._waiting.finished(tasks)
            del tasks  # an idle thread must not keep an unloaded model or the arrays of a request alive

    def _next_tasks(self) -> list[Task]:
        """Waits for the tasks of the next run; [] means that the server is shutting down."""
        with self._work:
            while True:
                now = time.monotonic()
                if tasks := self._waiting.take(now):
                    if active := [task for task in tasks if self._start(task)]:
                        return active
                    self._waiting.finished(tasks)
                    continue
                if self._closed and not self._unanswered:
                    return []
                ready_at = self._waiting.ready_at()
                self._work.wait(None if ready_at == math.inf else ready_at - now)

    def _start(self, task: Task) -> bool:
        """Marks a task as running; returns False if its answer is no longer needed."""
        if task not in self._unanswered:  # its deadline has passed
            return False
        if task.future.set_running_or_notify_cancel():
            return True
        self._unanswered.discard(task)
        self._answered.notify_all()
        return False

    def _run_batch(self, tasks: Sequence[Task]) -> None:
        first, started = tasks[0], time.monotonic()
        try:
            if first.sharing is None:
                answers = [first.model.predict(first.signature_name, first.inputs)]
            else:
                requests = [task.inputs for task in tasks]
                rows = sum(task.rows for task in tasks)
                size = next((size for size in self._batching.allowed_batch_sizes if size >= rows), rows)
                outputs = first.model.predict(first.signature_name, first.sharing.join(requests, size))
                answers = first.sharing.split(outputs, requests, size)
                self.metrics.batch([t.rows for t in tasks], size - rows, [started - t.submitted for t in tasks])
        except Exception as error:
            if len(tasks) == 1 or isinstance(error, _COMMON_ERRORS):
                self._fail(tasks, error)
                return
            # One bad request must neither fail the others in its batch nor make each of them run alone.
            middle = len(tasks) // 2
            for half in (tasks[:middle], tasks[middle:]):
                if active := [task for task in half if task.deadline > time.monotonic()]:
                    self._run_batch(active)
            return
        ended = time.monotonic()
        for task in tasks:
            self.metrics.runtime(task.model.name, task.api, ended - task.submitted)
        for task, answer in zip(self._claim(tasks), answers, strict=True):
            if task is not None:
                task.future.set_result(answer)

    def _claim(self, tasks: Sequence[Task]) -> list[Task | None]:
        """Takes over the tasks that are not answered yet; the others are replaced with None."""
        with self._answered:
            claimed = [task if task in self._unanswered else None for task in tasks]
            self._unanswered.difference_update(tasks)
            if not self._unanswered:
                self._answered.notify_all()
        return claimed

    def _fail(self, tasks: Sequence[Task], error: Exception) -> None:
        for task in filter(None, self._claim(tasks)):
            try:
                task.future.set_exception(error)
            except InvalidStateError:  # canceled while it waited
                pass

    def _watch_deadlines(self) -> None:
        """Fails tasks past their deadline, including running ones; sleeps until the next deadline."""
        while not self._closed or self._unanswered:
            with self._deadlines:
                now = time.monotonic()
                late = [task for task in self._unanswered if task.deadline <= now]
                for task in late:
                    self._waiting.remove(task)
                if not late:
                    self._next_deadline = min((task.deadline for task in self._unanswered), default=math.inf)
                    self._deadlines.wait(None if self._next_deadline == math.inf else self._next_deadline - now)
            for task in late:
                problem = _RAN_TOO_LONG if task.future.running() else _WAITED_TOO_LONG
                self._fail([task], tf.errors.DeadlineExceededError(None, None, problem))
