"""Names -> data sets: TensorFlow Datasets' own and ours, prepared on first use."""

import functools

import tensorflow_datasets as tfds

from keras_dl.data import builders, catalogue
from keras_dl.data.batches import Splits
from keras_dl.errors import UserError


@functools.cache
def load(name: str, **options) -> Splits:
    """Reads a data set into memory-cached, unbatched splits; a second call of the same process costs nothing.

    A set without its own validation or test split gives the last part of its training split: 15 % each, cut before
    anything is shuffled.

    Args:
        name: a builder of ours (`"digit_strings"`, `"python_source"`), or one of TensorFlow Datasets' as
            `"tfds:mnist"`, `"tfds:mnist/3dconfig:1.0.0"`.
        **options: passed to the builder, for example `images="tfds:mnist"` of `digit_strings`.

    Returns:
        `Splits` of unbatched examples, as the builder's `features` declare them.

    Raises:
        UserError: if there is no such set, or it cannot be downloaded from here.

    Example:

    >>> splits = load("digit_strings")
    >>> example = next(iter(splits.test))
    >>> example["image"].shape[0], example["text"].dtype.name
    (10, 'string')
    """
    builder = prepared(name, **options)
    parts = catalogue.parts(set(builder.info.splits))
    examples = (builder.as_dataset(split=part, shuffle_files=False).cache() for part in parts)
    return Splits(*examples, builder.info.features)


def prepared(name: str, **options) -> tfds.core.DatasetBuilder:
    """The TFDS builder of a name, its data on disk. Arguments and errors are those of `load`."""
    own = {builder.name: builder for builder in builders.BUILDERS}
    if name.startswith("tfds:"):
        return catalogue.prepare(catalogue.find(name, **options), name)
    if name not in own:
        raise UserError(
            f"unknown data set {name!r}: expected one of {', '.join(sorted(own))}, or tfds:NAME for one of "
            "TensorFlow Datasets' (https://www.tensorflow.org/datasets/catalog/overview)"
        )
    return catalogue.prepare(own[name](**options), name)
