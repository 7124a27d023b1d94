"""Runs models for the front ends: a bounded queue, threads, deadlines, and a drain at the end."""

import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from keras_dl.serving.server.batching import Batching
from keras_dl.serving.server.metrics import Metrics


class Inference:
    """Answers requests to loaded models on threads of its own. Thread-safe.

    Args:
        store: the models, for the front ends; `ModelStore`.
        metrics: where runs are counted.
        batching: how requests are put together. None: each is run by itself, several at a time.
        timeout_seconds: how long a request may take that brings no deadline of its own.
    """

    def __init__(self, store, metrics: Metrics, batching: Batching | None = Batching(), timeout_seconds: float = 30.0):  # noqa: B008
        self.store, self.metrics = store, metrics
        self._limits = batching or Batching()
        self._timeout_seconds = timeout_seconds
        self._threads = ThreadPoolExecutor(self._limits.num_threads, "inference")
        self._pending: set[Future] = set()
        self._idle = threading.Condition()
        self._closed = False
        metrics.follow(store.names)

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
            api: under which runtime is recorded: "Predict", "Classify", "Regress".

        Returns:
            A future of `{output name: array}`. Cancelling it takes the request out of the queue.

        Raises (in the future):
            tf.errors.UnavailableError: the queue is full, or the server is shutting down.
            tf.errors.DeadlineExceededError: it took too long.
            tf.errors.OpError: the model refused the input or failed.
        """
        started = time.monotonic()
        allowed = self._timeout_seconds if timeout_seconds is None else timeout_seconds

        def run():
            if time.monotonic() > started + allowed:
                raise tf.errors.DeadlineExceededError(None, None, "Timed out waiting in the queue")
            outputs = model.predict(signature_name, inputs)
            self.metrics.runtime(model.name, api, time.monotonic() - started)
            return outputs

        with self._idle:
            if self._closed:
                return _failed(tf.errors.UnavailableError(None, None, "the server is shutting down"))
            if len(self._pending) >= self._limits.max_batch_size * self._limits.max_enqueued_batches:
                text = "The batch scheduling queue to which this task was submitted is full"
                return _failed(tf.errors.UnavailableError(None, None, text))
            future = self._threads.submit(run)
            self._pending.add(future)
        future.add_done_callback(self._done)
        return future

    def close(self, seconds: float) -> None:
        """Refuses new requests and returns when all others are answered, at most after so many seconds."""
        with self._idle:
            self._closed = True
            self._idle.wait_for(lambda: not self._pending, seconds)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _done(self, future: Future) -> None:
        with self._idle:
            self._pending.discard(future)
            if not self._pending:
                self._idle.notify_all()


def _failed(error: Exception) -> Future:
    future: Future = Future()
    future.set_exception(error)
    return future
