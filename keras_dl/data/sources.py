"""Loading of data sets by name, prepared on first use."""

import functools

import tensorflow_datasets as tfds

from keras_dl.data import builders, catalogue
from keras_dl.data.batches import Splits
from keras_dl.errors import UserError


@functools.cache
def load(name: str, **options) -> Splits:
    """Loads a data set as unbatched splits cached in memory. Repeated calls in one process return the same splits.

    If the data set has no validation or test split, the last 15% of its training split is used for each missing split,
    cut before shuffling.

    Args:
        name: a builder of this package (`"digit_strings"`, `"python_source"`), or one of TensorFlow Datasets, such as
            `"tfds:mnist"` or `"tfds:mnist/3dconfig:1.0.0"`.
        **options: passed to the builder, for example `images="tfds:mnist"` for `digit_strings`.

    Returns:
        `Splits` of unbatched examples, as declared by the builder's `features`.

    Raises:
        UserError: if the data set does not exist or cannot be downloaded.

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
    """Returns the TFDS builder of a data set, with its data on disk. Arguments and errors are those of `load`."""
    own = {builder.name: builder for builder in builders.BUILDERS}
    if name.startswith("tfds:"):
        return catalogue.prepare(catalogue.find(name, **options), name)
    if name not in own:
        raise UserError(
            f"unknown data set {name!r}: expected one of {', '.join(sorted(own))}, or tfds:NAME for a data set of "
            "TensorFlow Datasets (https://www.tensorflow.org/datasets/catalog/overview)"
        )
    return catalogue.prepare(own[name](**options), name)
