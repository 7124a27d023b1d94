"""The metrics of every epoch, as points of a run, with how fast it went and what it waited for."""

import contextlib
import time

import keras
import tensorflow as tf

from keras_dl.tracking.journal import Journal


class EpochLogger(keras.callbacks.Callback):
    """Tells a journal the metrics of each epoch, in one call, with

    - `epoch_seconds`, all of the epoch, validation included;
    - `steps_per_second` and `examples_per_second` of the training part; the first epoch's include compilation;
    - `input_fraction` of the training part: the share in which no step had its batch, because the input was waited for
      or just starting, if `watch` was given the data. 0 is a training that always finds its input ready. On a GPU it is
      the host that waits; under a distribution strategy, or without tf.data's autotuning, there is no such metric.

    Nothing is measured in the batches but their number, so that accelerators run ahead undisturbed: examples are those
    that Keras' own loss counts, and the waiting is what tf.data says of it.

    Args:
        journal: `Journal` of the run.
    """

    async_safe = True  # else Keras would wait for the logs of every batch

    def __init__(self, journal: Journal):
        super().__init__()
        self.journal, self.watched = journal, None

    def watch(self, data: tf.data.Dataset, once: bool = False) -> tf.data.Dataset:
        """The same data, to be given to `fit` in their place: `input_fraction` is measured on them.

        Args:
            data: of the training.
            once: bool, whether an epoch makes one iterator only. Keras makes another one when an epoch is over and
                never reads it, which moves the order of data that each iterator shuffles anew. Defaults to False.
        """
        self.watched = _Watched(data, once)
        return self.watched

    def on_train_begin(self, logs=None):
        self.compiled = None  # when the first step, which compiles, was over

    def on_epoch_begin(self, epoch, logs=None):
        if self.watched:
            self.watched.made = False
        self.began = time.perf_counter()
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
        if isinstance(loss, keras.metrics.Mean):  # now, for an evaluation begins it anew
            self.examples = float(keras.ops.convert_to_numpy(loss.count))

    def on_epoch_end(self, epoch, logs=None):
        if self.trained is None:
            self._end_training()
        values = {**(logs or {}), "epoch_seconds": time.perf_counter() - self.began}
        if self.steps:
            values["steps_per_second"] = self.steps / (self.trained - self.began)
            if self.examples:
                values["examples_per_second"] = self.examples / (self.trained - self.began)
            fraction = self._input_fraction()
            if fraction is not None:
                values["input_fraction"] = fraction
        self.journal.metrics(values, epoch)

    def _input_fraction(self):
        busy = self.watched and self.watched.seconds_between_batches()
        steps, since = (self.steps - 1, self.compiled) if self.first else (self.steps, self.began)
        if not busy or not steps or since is None:
            return None
        return max(0.0, 1 - busy * steps / (self.trained - since))


class _Watched(tf.data.Dataset):
    """The same data set, nothing added to it; it remembers its iterators, which Keras would keep to itself.

    The batch is fetched within Keras' compiled step, where no callback sees the waiting. tf.data's model of an iterator
    holds the times, at most the last hundred, between a batch that was delivered and the next that was asked for.
    """

    def __init__(self, data, once):
        self._data, self._unread, self.once, self.made = data, [], once, False
        super().__init__(data._variant_tensor)

    def _inputs(self):
        return [self._data]

    @property
    def element_spec(self):
        return self._data.element_spec

    def __iter__(self):
        if self.once and self.made and self._unread:
            return self._unread[-1]
        self.made = True
        iterator = super().__iter__()
        self._unread = [*self._unread[-1:], iterator]
        return iterator

    def seconds_between_batches(self):
        """The mean of the last epoch; None if tf.data did not measure it."""
        gaps = []
        with contextlib.suppress(tf.errors.OpError, ValueError):
            for iterator in list(self._unread):  # Keras may have made the next epoch's already
                gaps = list(tf.data.experimental.get_model_proto(iterator).gap_times)
                if gaps:
                    self._unread.remove(iterator)
                    break
        return 1e-6 * sum(gaps) / len(gaps) if gaps else None
