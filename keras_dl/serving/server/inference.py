"""Runs models for the front ends: micro-batching over a bounded queue, deadlines, and a drain at the end.

A thread that is free takes what waits: while one batch runs the next one gathers, so that batches are as large as the
load makes them and a request that comes alone runs at once.
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
from keras_dl.serving.server.metrics import Metrics
from keras_dl.serving.server.queue import Task, WaitingTasks
from keras_dl.serving.server.sharing import Sharing, sharing

logger = logging.getLogger(__name__)

_DEFAULT = Batching()
_LEAST_THREADS = 4
_LONGEST_SECONDS = 24 * 3600  # no thread can wait for centuries, which is what a call without a deadline may have
# Errors that say nothing about a single request: its neighbours in a batch fail alike, and another run would too.
_COMMON_ERRORS = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.UnavailableError,
)
# TensorFlow Serving's texts.
_RAN_TOO_LONG = "Timed out waiting for notification"
_WAITED_TOO_LONG = "Run() timeout exceeded while waiting in batching queue"


class Inference:
    """Answers requests to loaded models on threads of its own. Thread-safe.

    Args:
        store: the models, for the front ends; `ModelStore`.
        metrics: where runs are counted.
        batching: how requests are put together. None: each is run by itself.
        timeout_seconds: how long a request may take that brings no deadline of its own.
    """

    def __init__(self, store, metrics: Metrics, batching: Batching | None = _DEFAULT, timeout_seconds: float = 30.0):
        self.store, self.metrics = store, metrics
        self._batching, limits = batching, batching or _DEFAULT
        self._timeout_seconds = timeout_seconds
        self._most_waiting = limits.max_batch_size * limits.max_enqueued_batches
        # More than run batches of one model: what must run alone, and other models, are not to wait for them.
        threads = max(limits.num_threads + 1, _LEAST_THREADS, os.cpu_count() or 1)
        seconds = limits.timeout_micros * 1e-6
        self._waiting = WaitingTasks(
            limits.max_batch_size, limits.max_padding, limits.num_threads, threads - 1, seconds
        )
        self._unanswered: set[Task] = set()  # who takes a task out of it answers it, and nobody else
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
        """Asks for a run of a signature; never blocks.

        Args:
            model: `LoadedModel`, of the store.
            signature_name: of that model.
            inputs: an array for every input of the signature, of its dtype.
            timeout_seconds: until the answer must be there. Defaults to None: what the server allows.
            api: under which the runtime is recorded: "Predict", "Classify", "Regress".

        Returns:
            A future of `{output name: array}`. Cancelling it while it waits takes the request out of the queue. It
            fails with UnavailableError if the model's queue is full or the server shuts down, with
            DeadlineExceededError when the time is up, and with the tf.errors.OpError of the model that refused the
            input or failed.
        """
        now = time.monotonic()
        deadline = now + min(_LONGEST_SECONDS, self._timeout_seconds if timeout_seconds is None else timeout_seconds)
        shared = self._sharing(model, signature_name)
        key = shared and shared.key(inputs)
        if key is None:
            shared, key, rows, length = None, object(), 1, 0
        else:
            key, rows = (model, signature_name, key), next(iter(inputs.values())).shape[0]
            length = shared.length(inputs)
        task = Task(model, signature_name, inputs, shared, key, rows, length, api, now, deadline, Future())
        # Not the task itself: that would be a circle, and its arrays would stay until garbage is collected.
        task.future.add_done_callback(functools.partial(self._forget, weakref.ref(task)))
        with self._work:
            if self._closed:
                problem = "the server is shutting down"
            elif self._waiting.count(model.name) >= self._most_waiting:
                problem = (
                    "The batch scheduling queue to which this task was submitted is full; "
                    f"currently {self._most_waiting} requests wait"
                )
            else:
                problem = None
                self._unanswered.add(task)
                if self._waiting.add(task):
                    self._work.notify()  # else a thread that runs the model's batches will come back for it
                if deadline < self._next_deadline:
                    self._next_deadline = deadline
                    self._deadlines.notify()
        if problem:
            task.future.set_exception(tf.errors.UnavailableError(None, None, problem))
        return task.future

    def close(self, seconds: float) -> None:
        """Refuses new requests and returns when all others are answered; after so many seconds it refuses them too."""
        with self._work:
            self._closed = True
            self._answered.wait_for(lambda: not self._unanswered, seconds)
            left = list(self._unanswered)
        self._fail(left, tf.errors.UnavailableError(None, None, "the server is shutting down"))
        with self._work:  # the threads end
            self._work.notify_all()
            self._deadlines.notify()

    def _forget(self, cancelled: weakref.ref[Task], future: Future) -> None:
        """Takes a request out of the queue if it was cancelled."""
        task = cancelled() if future.cancelled() else None
        if task is not None:
            with self._work:
                self._waiting.remove(task)
                self._unanswered.discard(task)
                self._answered.notify_all()

    def _sharing(self, model, signature_name: str) -> Sharing | None:
        if self._batching is None:
            return None
        of_model = self._sharings.setdefault(model, {})
        if signature_name not in of_model:
            of_model[signature_name] = sharing(model, signature_name, self._batching.every_signature)
        return of_model[signature_name]

    def _run(self) -> None:
        while tasks := self._next_tasks():
            try:
                self._run_batch(tasks)
            except Exception as error:  # the thread must outlive whatever a model can do to it
                logger.exception("a run of model %s failed", tasks[0].model.name)
                self._fail(tasks, error)
            with self._work:
                self._waiting.ended(tasks)
            del tasks  # an unloaded model and the arrays of a request must not live on in an idle thread

    def _next_tasks(self) -> list[Task]:
        """Waits for work. Nothing means that there will be none."""
        with self._work:
            while True:
                now = time.monotonic()
                if tasks := self._waiting.take(now):
                    if alive := [task for task in tasks if self._start(task)]:
                        return alive
                    self._waiting.ended(tasks)
                    continue
                if self._closed and not self._unanswered:
                    return []
                ripe_at = self._waiting.ripe_at()
                self._work.wait(None if ripe_at == math.inf else ripe_at - now)

    def _start(self, task: Task) -> bool:
        """Whether somebody still waits for the answer of a task that has been taken."""
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
            # One bad request must not fail its neighbours, nor make each of them run alone.
            middle = len(tasks) // 2
            for half in (tasks[:middle], tasks[middle:]):
                if alive := [task for task in half if task.deadline > time.monotonic()]:
                    self._run_batch(alive)
            return
        ended = time.monotonic()
        for task in tasks:
            self.metrics.runtime(task.model.name, task.api, ended - task.submitted)
        for task, answer in zip(self._claim(tasks), answers, strict=True):
            if task is not None:
                task.future.set_result(answer)

    def _claim(self, tasks: Sequence[Task]) -> list[Task | None]:
        """The tasks, with None for those that are answered already; the others are the caller's to answer."""
        with self._answered:
            mine = [task if task in self._unanswered else None for task in tasks]
            self._unanswered.difference_update(tasks)
            if not self._unanswered:
                self._answered.notify_all()
        return mine

    def _fail(self, tasks: Sequence[Task], error: Exception) -> None:
        for task in filter(None, self._claim(tasks)):
            try:
                task.future.set_exception(error)
            except InvalidStateError:  # cancelled while it waited
                pass

    def _watch_deadlines(self) -> None:
        """Answers what is late, also while it runs; sleeps until the next deadline of a task that is unanswered."""
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
