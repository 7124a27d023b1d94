"""Data sets of the TensorFlow Datasets catalog, by name, with errors that explain what to do."""

import hashlib
import sys

import tensorflow_datasets as tfds

from keras_dl.compat.tensorflow_datasets import limit_download_retries
from keras_dl.errors import UserError, reason_of

limit_download_retries()


def find(name: str, **options) -> tfds.core.DatasetBuilder:
    """Returns the builder of a data set of TensorFlow Datasets, without downloading anything.

    The name is for example `"tfds:mnist"` or `"tfds:mnist/3dconfig:1.0.0"`; the options are passed to the builder.

    Example:

    >>> find("tfds:mnist").name
    'mnist'
    """
    short = name.removeprefix("tfds:")
    try:
        return tfds.builder(short, **options)
    except (ValueError, AssertionError, ImportError) as error:  # unknown set; unknown version; Hugging Face set
        raise UserError(f"TensorFlow Datasets has no {short!r}: {reason_of(error)}") from error


def prepare(builder: tfds.core.DatasetBuilder, name: str) -> tfds.core.DatasetBuilder:
    """Downloads and prepares the data of a builder, if necessary, and returns the builder.

    If that fails, UserError explains how to get the data; `name` is the user's name for the data set.
    """
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        builder.download_and_prepare()
    except UserError:
        raise
    except Exception as error:  # the downloader or a builder can raise anything
        help = ""
        if name.startswith("tfds:"):
            help = (
                f". On a machine with network access, run: tfds build {name.removeprefix('tfds:')}; then copy its "
                f"folder to {builder.data_path}, or set TFDS_DATA_DIR to the folder that contains it"
            )
        raise UserError(
            f"the data set {name!r} is not on this machine and could not be prepared "
            f"({type(error).__name__}: {reason_of(error)}){help}"
        ) from error
    return builder


def copy_name(builder: tfds.core.DatasetBuilder) -> str:
    """Returns the configuration name for a builder that copies another data set, unique per set and version.

    Example:

    >>> copy_name(find("tfds:mnist"))
    'tfds_mnist_3_0_1_850407a6'
    """
    full_name = builder.info.full_name  # includes configuration and version
    readable = "".join(character if character.isalnum() else "_" for character in full_name)
    return f"tfds_{readable}_{hashlib.sha256(full_name.encode()).hexdigest()[:8]}"


def parts(names: set[str]) -> tuple[str, str, str]:
    """Returns the TFDS slices for training, validation and test, given the splits that a data set has.

    Example:

    >>> parts({"train", "test"})
    ('train[:85%]', 'train[85%:]', 'test')
    """
    validation = next((name for name in ("validation", "valid", "val", "dev") if name in names), None)
    if "train" not in names:
        raise UserError(f"the data set has no split named 'train'. Available: {', '.join(sorted(names))}")
    if validation and "test" in names:
        return "train", validation, "test"
    if validation:
        return "train[:85%]", validation, "train[85%:]"
    if "test" in names:
        return "train[:85%]", "train[85%:]", "test"
    return "train[:70%]", "train[70%:85%]", "train[85%:]"
