"""The input pipeline that all models share: examples -> shuffled, padded batches."""

import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_dl.compat.tensorflow import flat_structure
from keras_dl.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)  # compared by identity: data sets do not define equality
class Splits:
    """The three splits of a data set, as unbatched examples from `load` or as batches from `batches`.

    Args:
        train: `tf.data.Dataset`, the training data.
        validation: `tf.data.Dataset`, used to compare the trials of a search.
        test: `tf.data.Dataset`, used once, to evaluate the best model.
        features: the `FeaturesDict` of TensorFlow Datasets (shapes, class names), or None (default).
        epoch: integer `tf.Variable` that determines the order of the training examples, or None (default). Training
            sets it, so that a resumed run sees the examples in the same order.

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
        """Checks the splits and returns itself.

        Raises:
            UserError: if a split is not a `tf.data.Dataset`, is empty (an empty validation split would invalidate every
                trial of a search), or is known to be endless.
        """
        for name, split in zip(("train", "validation", "test"), self, strict=True):
            if not isinstance(split, tf.data.Dataset):
                raise UserError(f"the {name} split must be a tf.data.Dataset. Received: {type(split).__name__}")
            _check_ends(name, split)
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
    """Prepares unbatched examples for `fit`.

    The steps, in order:

    1. `load` has cached the source, so later trials read from memory.
    2. The training examples are shuffled over the whole split, differently in each epoch but reproducibly for a seed.
    3. `example` is mapped, after the shuffle, so that its random draws apply to different examples in each epoch.
    4. Examples are bucketed by length, padded with zeros, batched and prefetched.

    Validation and test keep their order and have their own batch size, so that their metrics and fingerprints do not
    depend on the training batch size.

    Args:
        examples: unbatched `Splits`, cached by `load`.
        batch_size: int, examples per training batch.
        example: function of one example that returns `(input, target)`; None (default) leaves examples unchanged.
        length: function of `(input, target)` that returns the int length to bucket by. Requires `bucket_boundaries`.
        bucket_boundaries: increasing list of lengths; an example of length n is assigned to the first bucket with a
            boundary above n, so that short sequences are not padded to the longest. Defaults to one bucket.
        evaluation_batch_size: int, examples per validation or test batch. Defaults to 256.
        seed: int, determines the order of the training examples. Defaults to 0.

    Returns:
        `Splits` of batches, with every axis padded to the longest example of the batch.

    Raises:
        UserError: if `batch_size` is below 1, or a split is known to be endless.

    Example:

    >>> rows = tf.data.Dataset.range(1, 4).map(lambda n: tf.ones([n]))
    >>> ready = batches(Splits(rows, rows, rows), batch_size=2)
    >>> [batch.shape.as_list() for batch in ready.test]
    [[3, 3]]
    """
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1. Received: {batch_size}")
    for name, split in zip(("train", "validation", "test"), examples, strict=True):
        _check_ends(name, split)  # the number of batches may be unknown

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
    """Shuffles in an order that depends only on seed and epoch, not on the number of earlier iterations."""
    count = split.cardinality().numpy()
    buffer = count if count > 0 else 10_000

    @tf.autograph.experimental.do_not_convert
    def shuffled_epoch(_):
        # The raw operation: `shuffle` requires a seed known when the data set is created.
        seeds = tf.cast(tf.random.experimental.stateless_fold_in([seed, 1], epoch.read_value()), tf.int64)
        order = tf.raw_ops.ShuffleDataset(
            input_dataset=tf.data.experimental.to_variant(split),
            buffer_size=tf.constant(buffer, tf.int64),
            seed=seeds[0],
            seed2=seeds[1],
            reshuffle_each_iteration=False,
            **flat_structure(split),
        )
        return tf.data.experimental.from_variant(order, split.element_spec)

    # Each iterator reads the epoch when its first example is requested.
    shuffled = tf.data.Dataset.from_tensors(0).flat_map(shuffled_epoch)
    return shuffled.apply(tf.data.experimental.assert_cardinality(count)) if count >= 0 else shuffled


def _check_ends(name, split):
    if split.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise UserError(f"the {name} split is endless, so no epoch would end: limit it, for example with take(n)")


def fingerprint(split: tf.data.Dataset) -> str:
    """Returns a digest of the examples. Metrics are comparable only if the fingerprints are equal.

    The order of the examples, their division into batches and their padding have no effect: trailing zeros and empty
    texts along each axis of an example are removed first.

    Args:
        split: finite `tf.data.Dataset` of batches, whose arrays may be ragged or sparse.

    Returns:
        16 hexadecimal digits.

    Example:

    >>> rows = tf.data.Dataset.range(4)
    >>> fingerprint(rows.batch(2)) == fingerprint(rows.batch(3))
    True
    >>> fingerprint(rows.batch(2)) == fingerprint(rows.skip(1).batch(2))
    False
    """
    total = 0
    for batch in split:
        arrays = [_dense(leaf) for leaf in tf.nest.flatten(batch)]
        for row in range(max((len(array) for array in arrays if array.ndim), default=1)):
            digest = hashlib.sha256()
            for array in arrays:
                # A scalar belongs to each example of its batch. The slice keeps texts in an array.
                _update(digest, array[row : row + 1].reshape(array.shape[1:]) if array.ndim else array)
            total += int.from_bytes(digest.digest(), "big")
    return f"{total % 2**256:064x}"[:16]


def _dense(leaf):
    if isinstance(leaf, tf.RaggedTensor):
        leaf = leaf.to_tensor()
    elif isinstance(leaf, tf.SparseTensor):
        leaf = tf.sparse.to_dense(leaf)
    return np.asarray(leaf)


def _update(digest, array):
    """Adds an array without its padding to a digest."""
    is_text = array.dtype == object
    if array.ndim:
        used = np.nonzero(array != (b"" if is_text else 0))
        array = array[tuple(slice(axis.max(initial=-1) + 1) for axis in used)]
    digest.update(f"{array.dtype.str}{array.shape}".encode())
    if is_text:  # the array holds addresses, which differ between processes
        for text in array.ravel():
            digest.update(len(text).to_bytes(8, "big") + text)
    else:
        digest.update(array.tobytes())
