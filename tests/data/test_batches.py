"""The input pipeline: order, padding, buckets, reproducibility and fingerprints."""

import hashlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.data import Splits, batches, fingerprint
from keras_dl.errors import UserError


def numbers(count, start=0):
    return tf.data.Dataset.range(start, start + count)


def splits(train=20, validation=7, test=5):
    return Splits(numbers(train), numbers(validation, 100), numbers(test, 200), features="features")


def ragged(*lengths):
    """Rows numbered from 1 with the given lengths, filled with their own number."""
    rows = tf.data.Dataset.from_tensor_slices((np.arange(1, len(lengths) + 1), np.array(lengths)))
    return rows.map(lambda number, length: tf.fill([length], number))


def content(split):
    return [batch.tolist() for batch in split.as_numpy_iterator()]


def flat(split):
    return [value for batch in content(split) for value in batch]


def test_batches_have_every_example_once():
    ready = batches(splits(), batch_size=8, evaluation_batch_size=3)
    assert [len(batch) for batch in content(ready.train)] == [8, 8, 4]
    assert sorted(flat(ready.train)) == list(range(20))
    assert content(ready.validation) == [[100, 101, 102], [103, 104, 105], [106]]
    assert content(ready.test) == [[200, 201, 202], [203, 204]]
    assert ready.features == "features"


def epochs_of(ready, *epochs):
    """Returns the training examples of each epoch."""
    seen = []
    for epoch in epochs:
        ready.epoch.assign(epoch)
        seen.append(flat(ready.train))
    return seen


def test_training_examples_are_shuffled_globally_in_each_epoch():
    first, second = epochs_of(batches(splits(train=1000), batch_size=100), 0, 1)
    assert first != second
    assert sorted(first) == sorted(second) == list(range(1000))
    # Examples of the last tenth are in the first tenth: the shuffle buffer is not a sliding window.
    assert max(first[:100]) > 900
    assert first != list(range(1000))


def test_the_order_depends_on_seed_and_epoch():
    epochs = [epochs_of(batches(splits(train=100), batch_size=10, seed=seed), 0, 1) for seed in (5, 5, 6)]
    assert epochs[0] == epochs[1]
    assert epochs[0][0] != epochs[2][0] and epochs[0][1] != epochs[2][1]


def test_a_parallel_map_keeps_the_order():
    def sometimes_slow(value):
        steps = tf.where(value % 7 == 0, 20_000, 1)
        return value + 0 * tf.cast(tf.while_loop(lambda i: i < steps, lambda i: [i + 1], [0])[0], tf.int64)

    ready = batches(splits(validation=60), batch_size=4, example=sometimes_slow)
    assert flat(ready.validation) == list(range(100, 160))


def test_random_draws_of_the_example_function_differ_between_epochs():
    # With a seed, the same numbers are drawn in each epoch, but by different examples.
    tf.random.set_seed(0)
    ready = batches(splits(), batch_size=20, example=lambda value: (value, tf.random.uniform([])))
    drawn = []
    for epoch in (0, 1):
        ready.epoch.assign(epoch)
        drawn.append(dict(zip(*next(ready.train.as_numpy_iterator()), strict=True)))
    assert set(drawn[0]) == set(drawn[1]) == set(range(20))
    assert sum(drawn[0][value] != drawn[1][value] for value in range(20)) > 10


def test_validation_and_test_do_not_depend_on_the_training_batch_size():
    small, large = (batches(splits(validation=300), batch_size=size, seed=size) for size in (2, 64))
    assert content(small.validation) == content(large.validation)
    assert content(small.test) == content(large.test)
    assert [len(batch) for batch in content(small.validation)] == [256, 44]


def test_rows_are_padded_to_the_longest_of_the_batch():
    ready = batches(Splits(ragged(1), ragged(1), ragged(2, 3, 1)), batch_size=2, evaluation_batch_size=2)
    assert content(ready.test) == [[[1, 1, 0], [2, 2, 2]], [[3]]]


def test_all_axes_and_components_are_padded():
    def pair(row):
        return tf.tile(row[:, None], [1, tf.shape(row)[0]]), row[:1]

    ready = batches(Splits(ragged(1), ragged(1), ragged(2, 3)), batch_size=2, example=pair)
    image, label = next(ready.test.as_numpy_iterator())
    assert (image.shape, label.shape) == ((2, 3, 3), (2, 1))
    np.testing.assert_array_equal(image[0], [[1, 1, 0], [1, 1, 0], [0, 0, 0]])


def test_batches_have_rows_of_one_bucket():
    lengths = [1, 9, 2, 8, 4, 5, 3, 20]
    rows = ragged(*lengths)
    ready = batches(
        Splits(rows, rows, rows),
        batch_size=2,
        evaluation_batch_size=2,
        length=lambda row: tf.shape(row)[0],
        bucket_boundaries=[4, 9],
    )
    for split in ready:
        seen = []
        for batch in split.as_numpy_iterator():
            found = (batch > 0).sum(axis=1)
            seen += found.tolist()
            assert len(batch) <= 2
            # A length equal to a boundary belongs to the bucket above.
            assert len({int(np.digitize(length, [4, 9])) for length in found}) == 1
            assert batch.shape[1] == found.max()
        assert sorted(seen) == sorted(lengths)
    assert content(ready.test)[0] == [[1, 0], [3, 3]]  # in order within a bucket


def test_buckets_fill_whole_batches():
    rows = ragged(*[1, 5] * 6)
    ready = batches(Splits(rows, rows, rows), batch_size=3, length=lambda row: tf.shape(row)[0], bucket_boundaries=[3])
    assert sorted(batch.shape for batch in ready.train.as_numpy_iterator()) == [(3, 1), (3, 1), (3, 5), (3, 5)]


def test_a_training_split_of_unknown_size_is_shuffled():
    unknown = numbers(50).filter(lambda value: value >= 0)
    train = batches(Splits(unknown, numbers(1), numbers(1)), batch_size=50).train
    assert flat(train) != sorted(flat(train))
    assert sorted(flat(train)) == list(range(50))


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batch_size_must_be_positive(batch_size):
    with pytest.raises(UserError, match=f"at least 1. Received: {batch_size}"):
        batches(splits(), batch_size)


def test_splits_have_names_and_an_order():
    ready = splits()
    assert list(ready) == [ready.train, ready.validation, ready.test]
    assert ready.check() is ready


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_empty_splits_are_rejected(name):
    sizes = {"train": 3, "validation": 3, "test": 3, name: 0}
    with pytest.raises(UserError, match=f"the {name} split is empty"):
        splits(**sizes).check()
    with pytest.raises(UserError, match=f"the {name} split is empty"):
        batches(splits(**sizes), batch_size=2).check()


def test_splits_must_be_data_sets():
    with pytest.raises(UserError, match="the validation split must be a tf.data.Dataset. Received: list"):
        Splits(numbers(1), [1, 2], numbers(1)).check()


def rows(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays).batch(2)


def test_is_the_same_in_every_process():
    """Compares with a constant, which would fail for anything that differs between processes, such as addresses."""
    features = {"text": np.array(["one", "zwei", ""]), "number": np.arange(3.0)}
    assert fingerprint(tf.data.Dataset.from_tensor_slices(features).batch(2)) == "b690d5231fa5f193"


def test_is_the_same_on_a_second_reading():
    data = rows(np.arange(5), np.ones([5, 2], "float32"))
    assert fingerprint(data) == fingerprint(data) == fingerprint(rows(np.arange(5), np.ones([5, 2], "float32")))


BASE = np.arange(6)


@pytest.mark.parametrize(
    "other",
    [
        tf.data.Dataset.from_tensor_slices(BASE.astype("int32")).batch(2),
        tf.data.Dataset.from_tensor_slices(BASE.astype("float64")).batch(2),
        tf.data.Dataset.from_tensor_slices(BASE[:5]).batch(2),
        tf.data.Dataset.from_tensor_slices(BASE.reshape(6, 1)).batch(2),
        tf.data.Dataset.from_tensor_slices(np.where(BASE == 5, 6, BASE)).batch(2),
        tf.data.Dataset.from_tensor_slices(np.append(BASE, 5)).batch(2),
    ],
)
def test_changes_with_dtype_count_shape_and_values(other):
    assert fingerprint(other) != fingerprint(tf.data.Dataset.from_tensor_slices(BASE).batch(2))


def sequences():
    """Sequences of different lengths with their masks, texts and labels."""
    lengths = tf.data.Dataset.from_tensor_slices(np.array([3, 1, 7, 2, 5, 4]))
    return lengths.map(
        lambda n: (
            {
                "x": tf.random.stateless_uniform([n, 2], [n, 1]),
                "mask": n == tf.fill([n], n),
                "words": tf.fill([n], "a"),
            },
            tf.cast(n, tf.float32),
        )
    )


@pytest.mark.parametrize(
    "other",
    [
        lambda: sequences().padded_batch(4),
        lambda: sequences().padded_batch(6, ({"x": [9, 2], "mask": [9], "words": [9]}, [])),
        lambda: sequences().ragged_batch(4),
        lambda: sequences().skip(3).concatenate(sequences().take(3)).padded_batch(2),
        lambda: sequences().bucket_by_sequence_length(lambda inputs, _: tf.shape(inputs["x"])[0], [3, 6], [2] * 3),
    ],
    ids=["larger batches", "fixed length", "ragged", "another order", "buckets"],
)
def test_does_not_change_with_batches_padding_and_order(other):
    assert fingerprint(other()) == fingerprint(sequences().padded_batch(2))


def test_changes_if_examples_exchange_their_parts():
    inputs, labels = np.arange(1, 5), np.arange(5, 9)
    assert fingerprint(rows(inputs, labels)) != fingerprint(rows(inputs, labels[::-1].copy()))


def test_a_value_of_the_whole_batch_belongs_to_each_example():
    weighted = [rows(np.arange(4)).map(lambda batch, weight=weight: (batch, weight)) for weight in (1.0, 1.0, 2.0)]
    first, same, other = map(fingerprint, weighted)
    assert first == same != other


def test_changes_with_a_text():
    texts = [["ab", "c"], ["a", "bc"], ["ab", "d"], ["ab", ""]]
    assert len({fingerprint(rows(np.array(text))) for text in texts}) == 4


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
