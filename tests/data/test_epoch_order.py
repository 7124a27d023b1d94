"""Tests of the order of the training examples, which depends only on seed and epoch."""

import hashlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.data import Splits, batches


def ready(examples=None, seed=3, **options):
    examples = tf.data.Dataset.range(40) if examples is None else examples
    return batches(Splits(examples, examples, examples), batch_size=8, seed=seed, **options)


def order(made, epoch, read=lambda batch: batch):
    """Returns the numbers of the training examples in the order of an epoch."""
    made.epoch.assign(epoch)
    return [int(number) for batch in made.train.as_numpy_iterator() for number in read(batch)]


def test_it_does_not_depend_on_earlier_iterations():
    busy, quiet = ready(), ready()
    for epoch in (0, 0, 1, 7):
        order(busy, epoch)
    next(iter(busy.train))  # an unfinished iteration
    list(busy.validation)
    assert order(busy, 5) == order(quiet, 5)
    assert order(busy, 5) == order(quiet, 5)
    assert order(busy, 0) == order(quiet, 0) != order(quiet, 5)


@pytest.mark.parametrize("seed", [0, 17])
def test_it_does_not_depend_on_a_global_seed(seed):
    before = order(ready(), 2)
    try:
        tf.random.set_seed(seed)
        assert order(ready(), 2) == before
        keras.utils.set_random_seed(seed)
        tf.random.uniform([])
        made = ready()
        assert order(made, 2) == before and order(made, 2) == before
    finally:
        tf.random.set_seed(None)


def test_it_is_the_same_in_every_process():
    """Compares with a constant: a run that is resumed in another process sees the same order."""
    made = ready(tf.data.Dataset.range(1000))
    text = str([order(made, epoch) for epoch in (0, 1, 9)])
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "61d912c7981786f7"


def test_fit_sees_a_different_order_in_each_epoch():
    seen = []

    class Order(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            made.epoch.assign(epoch)
            seen.append([])

    class Sees(keras.Model):
        def call(self, inputs):
            return inputs

        def train_step(self, data):
            seen[-1] += data.numpy().astype(int).tolist()
            return {"loss": 0.0}

    made = ready()
    model = Sees()
    model.compile(run_eagerly=True)
    model.fit(made.train, epochs=3, verbose=0, shuffle=False, callbacks=[Order()])
    assert seen == [order(made, epoch) for epoch in range(3)]
    assert len({tuple(epoch) for epoch in seen}) == 3


def numbered(kind):
    """Returns forty numbered examples of the given structure, and a function that reads the numbers of a batch."""
    numbers = tf.data.Dataset.range(40)
    if kind == "ragged rows":
        return numbers.map(lambda n: tf.fill([1 + n % 3], n)), lambda batch: batch[:, 0]
    if kind == "dictionaries":
        return numbers.map(lambda n: {"image": tf.fill([2], n), "label": n}), lambda batch: batch["label"]
    if kind == "nested":
        return numbers.map(lambda n: ({"a": (n, tf.strings.as_string(n))}, n)), lambda batch: batch[0]["a"][0]
    rows = np.stack([np.arange(40), np.arange(40)], 1)
    return tf.data.Dataset.from_tensor_slices((rows, np.arange(40) % 2)).cache(), lambda batch: batch[0][:, 0]


@pytest.mark.parametrize("kind", ["ragged rows", "dictionaries", "nested", "tuples from a cache"])
def test_it_does_not_depend_on_the_structure_of_elements(kind):
    examples, read = numbered(kind)
    made, plain = ready(examples), ready()
    assert made.train.element_spec == made.test.element_spec  # the shuffle keeps the structure
    for epoch in (0, 3):
        assert order(made, epoch, read) == order(plain, epoch)


def test_ragged_tensors_keep_their_rows():
    examples = tf.data.Dataset.from_tensor_slices(tf.ragged.constant([[n] * (n % 3 + 1) for n in range(40)]))
    made = ready(examples, example=lambda row: (row[:1], tf.shape(row)[0]))
    assert order(made, 3, lambda batch: batch[0][:, 0]) == order(ready(), 3)


def test_the_number_of_batches_is_known_if_the_number_of_examples_is():
    assert len(ready().train) == 5
    unknown = ready(tf.data.Dataset.range(40).filter(lambda number: number >= 0))
    assert unknown.train.cardinality() == tf.data.UNKNOWN_CARDINALITY
    assert sorted(order(unknown, 0)) == list(range(40)) and order(unknown, 0) != order(unknown, 1)
