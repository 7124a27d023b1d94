"""A callback that logs the metrics, speed and input waiting time of every epoch."""

import contextlib
import time

import keras
import tensorflow as tf

from keras_dl.tracking.journal import Journal


class EpochLogger(keras.callbacks.Callback):
    """Writes the metrics of each epoch to a journal, together with

    - `epoch_seconds`, the duration of the epoch, including validation;
    - `steps_per_second` and `examples_per_second` of the training part; in the first epoch, they include compilation;
    - `input_fraction`, the fraction of the training part spent waiting for the input, including its start-up; 0 if
      every batch was ready in time. It requires `watch`. On a GPU, it is the host's waiting time. The metric is missing
      under a distribution strategy and without tf.data's autotuning.

    The callback only counts batches and never reads their results, so accelerators keep running ahead. The number of
    examples comes from Keras' loss metric, the waiting time from tf.data's own statistics.

    Args:
        journal: `Journal` of the run.
    """

    async_safe = True  # otherwise Keras waits for the logs of every batch

    def __init__(self, journal: Journal):
        super().__init__()
        self.journal, self.watched = journal, None

    def watch(self, data: tf.data.Dataset) -> tf.data.Dataset:
        """Returns the same dataset, instrumented to measure `input_fraction`; pass it to `fit`."""
        self.watched = _Watched(data)
        return self.watched

    def on_train_begin(self, logs=None):
        self.compiled = None  # the time after the first step, which compiles

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()
        self.trained = self.steps = self.examples = None
        self.first = self.compiled is None

    def on_train_batch_begin(self, batch, logs=None):
        if self.compiled is None and batch:
            self.compiled = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.steps = batch + 1

    def on_test_begin(self, logs=None):
        if self.trained is None:
            self._end_training()

    def _end_training(self):
        self.trained = time.perf_counter()
        loss = next((metric for metric in self.model.metrics if metric.name == "loss"), None)
        if isinstance(loss, keras.metrics.Mean):  # read it now: validation resets it
            self.examples = float(keras.ops.convert_to_numpy(loss.count))

    def on_epoch_end(self, epoch, logs=None):
        if self.trained is None:
            self._end_training()
        values = {"epoch_seconds": time.perf_counter() - self.started}
        if self.steps:
            values["steps_per_second"] = self.steps / (self.trained - self.started)
            if self.examples:
                values["examples_per_second"] = self.examples / (self.trained - self.started)
            fraction = self._input_fraction()
            if fraction is not None:
                values["input_fraction"] = fraction
        self.journal.metrics(values | (logs or {}), epoch)  # a metric of the model may have one of these names

    def _input_fraction(self):
        busy = self.watched and self.watched.seconds_between_batches()
        steps, since = (self.steps - 1, self.compiled) if self.first else (self.steps, self.started)
        if not busy or not steps or since is None:
            return None
        return max(0.0, 1 - busy * steps / (self.trained - since))


class _Watched(tf.data.Dataset):
    """A dataset that keeps references to its iterators and is otherwise unchanged.

    Keras fetches batches inside its compiled step, where no callback can measure the waiting time. tf.data's model of
    an iterator stores the last hundred intervals between delivering a batch and receiving the next request.
    """

    def __init__(self, data):
        self._data, self._unread = data, []
        super().__init__(tf.data.experimental.to_variant(data))

    def _inputs(self):
        return [self._data]

    @property
    def element_spec(self):
        return self._data.element_spec

    def __iter__(self):
        iterator = super().__iter__()
        self._unread = [*self._unread[-1:], iterator]
        return iterator

    def seconds_between_batches(self):
        """Returns the mean of the last epoch; None if tf.data did not measure it."""
        gaps = []
        with contextlib.suppress(tf.errors.OpError, ValueError):
            for iterator in list(self._unread):  # may already include the next epoch's
                gaps = list(tf.data.experimental.get_model_proto(iterator).gap_times)
                if gaps:
                    self._unread.remove(iterator)
                    break
        return 1e-6 * sum(gaps) / len(gaps) if gaps else None
