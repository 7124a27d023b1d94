"""The one tf.data recipe: examples -> batches, in one order."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf
import tensorflow_datasets as tfds

from keras_dl.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)  # compared as themselves: data sets have no equality
class Splits:
    """Three parts of a data set, as unbatched examples from `load` or as batches from `batches`.

    Args:
        train: `tf.data.Dataset`, what the model learns from.
        validation: `tf.data.Dataset`, what the search compares trials on.
        test: `tf.data.Dataset`, looked at once, with the best model.
        features: what TensorFlow Datasets knows of the examples (shapes, names of classes), or None (default).
        epoch: integer `tf.Variable` that the order of the training examples depends on, or None (default). A training
            sets it, so that one which goes on after an interruption sees what it would have seen.

    Example:

    >>> rows = tf.data.Dataset.range(10)
    >>> splits = Splits(train=rows.take(8), validation=rows.skip(8).take(1), test=rows.skip(9))
    >>> [len(split) for split in splits.check()]
    [8, 1, 1]
    """

    train: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset
    features: tfds.features.FeaturesDict | None = None
    epoch: tf.Variable | None = None

    def __iter__(self):
        return iter((self.train, self.validation, self.test))

    def check(self) -> "Splits":
        """Returns itself.

        Raises:
            UserError: if a split is not a `tf.data.Dataset` or has no batch; an empty validation split would make every
                trial of a search invalid.
        """
        for name, split in zip(("train", "validation", "test"), self, strict=True):
            if not isinstance(split, tf.data.Dataset):
                raise UserError(f"the {name} split must be a tf.data.Dataset. Received: {type(split).__name__}")
            if next(iter(split.take(1)), None) is None:
                raise UserError(f"the {name} split is empty: a search needs at least one batch in each split")
        return self


def batches(
    examples: Splits,
    batch_size: int,
    example: Callable | None = None,
    length: Callable | None = None,
    bucket_boundaries: list[int] | None = None,
    evaluation_batch_size: int = 256,
    seed: int = 0,
) -> Splits:
    """Makes unbatched examples ready for `fit`.

    The order, and why: the source is cached first (by `load`), so that every later trial reads memory; shuffled while
    examples are single, over the whole split, anew each epoch and the same for a seed; then mapped, so that what a
    random `example` draws meets other examples in each epoch; then sorted into buckets, padded with zeros and batched;
    prefetched last. Validation and test keep their order and one batch size, whatever the trained one is, so that their
    numbers and fingerprints compare.

    Args:
        examples: unbatched `Splits`, cached by `load`.
        batch_size: int, examples in a training batch.
        example: function of one example that returns `(input, target)`; None (default) takes examples as they are.
        length: function of `(input, target)` that returns the int length to bucket by. Needs `bucket_boundaries`.
        bucket_boundaries: increasing list of lengths; an example of length n goes to the first bucket with a boundary
            above n. Short sequences are then not padded to the longest of the whole set. Defaults to one bucket.
        evaluation_batch_size: int, examples in a validation or test batch. Defaults to 256.
        seed: int, the order of the training examples. Defaults to 0.

    Returns:
        `Splits` of batches, every axis padded to the longest of its batch.

    Raises:
        UserError: if `batch_size` is not positive.

    Example:

    >>> rows = tf.data.Dataset.range(1, 4).map(lambda n: tf.ones([n]))
    >>> ready = batches(Splits(rows, rows, rows), batch_size=2)
    >>> [batch.shape.as_list() for batch in ready.test]
    [[3, 3]]
    """
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1. Received: {batch_size}")

    def ready(split, size):
        if example is not None:
            split = split.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        if length is None:
            split = split.padded_batch(size)
        else:
            buckets = len(bucket_boundaries) + 1
            split = split.bucket_by_sequence_length(length, bucket_boundaries, [size] * buckets)
        return split.prefetch(tf.data.AUTOTUNE)

    epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
    return Splits(
        ready(_shuffle(examples.train, seed, epoch), batch_size),
        ready(examples.validation, evaluation_batch_size),
        ready(examples.test, evaluation_batch_size),
        examples.features,
        epoch,
    )


def _shuffle(split, seed, epoch):
    """The examples in an order that depends on seed and epoch alone, and not on who iterated how often before."""
    count = split.cardinality().numpy()
    buffer = count if count > 0 else 10_000

    @tf.autograph.experimental.do_not_convert
    def of_this_epoch(_):
        # The operation itself, for `shuffle` wants its seed to be known when the data set is made.
        seeds = tf.cast(tf.random.experimental.stateless_fold_in([seed, 1], epoch.read_value()), tf.int64)
        order = tf.raw_ops.ShuffleDataset(
            input_dataset=tf.data.experimental.to_variant(split),
            buffer_size=tf.constant(buffer, tf.int64),
            seed=seeds[0],
            seed2=seeds[1],
            reshuffle_each_iteration=False,
            **split._flat_structure,
        )
        return tf.data.experimental.from_variant(order, split.element_spec)

    # Read anew by each iterator when its first example is asked for.
    shuffled = tf.data.Dataset.from_tensors(0).flat_map(of_this_epoch)
    return shuffled.apply(tf.data.experimental.assert_cardinality(count)) if count >= 0 else shuffled
