"""TensorFlow Datasets' own sets by name, with errors that say what to do."""

import hashlib
import sys

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import downloader

from keras_dl.errors import UserError, reason_of

# TFDS' own 10 keep whoever has no network waiting for minutes; these last seconds.
downloader.MAX_RETRIES = 5


def find(name: str, **options) -> tfds.core.DatasetBuilder:
    """The builder of one of TensorFlow Datasets' sets; nothing is downloaded.

    Args:
        name: `"tfds:mnist"`, `"tfds:mnist/3dconfig:1.0.0"`.
        **options: passed to the builder.

    Raises:
        UserError: if there is no such set, configuration or version.

    Example:

    >>> find("tfds:mnist").name
    'mnist'
    """
    short = name.removeprefix("tfds:")
    try:
        return tfds.builder(short, **options)
    except (ValueError, AssertionError, ImportError) as error:  # no such set, or version; a set of Hugging Face
        raise UserError(f"TensorFlow Datasets has no {short!r}: {reason_of(error)}") from error


def prepare(builder: tfds.core.DatasetBuilder, name: str) -> tfds.core.DatasetBuilder:
    """Returns the builder with its data on disk.

    Args:
        builder: of TensorFlow Datasets, or of ours.
        name: what the user called it.

    Raises:
        UserError: if it cannot be downloaded from here, saying how to get it.
    """
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        builder.download_and_prepare()
    except UserError:
        raise
    except Exception as error:  # TFDS lets through whatever its downloader or a builder raises
        help = ""
        if name.startswith("tfds:"):
            help = (
                f". Where there is a network, run: tfds build {name.removeprefix('tfds:')}; then copy its folder here "
                f"as {builder.data_path}, or point TFDS_DATA_DIR to the folder that holds it"
            )
        raise UserError(
            f"the data set {name!r} is not on this machine and could not be prepared "
            f"({type(error).__name__}: {reason_of(error)}){help}"
        ) from error
    return builder


def copy_name(builder: tfds.core.DatasetBuilder) -> str:
    """What a copy of a set is called in the configuration of a builder of ours: another set, or version, another name.

    Example:

    >>> copy_name(find("tfds:mnist"))
    'tfds_mnist_3_0_1_850407a6'
    """
    whole = builder.info.full_name  # with configuration and version
    readable = "".join(sign if sign.isalnum() else "_" for sign in whole)
    return f"tfds_{readable}_{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def parts(names: set[str]) -> tuple[str, str, str]:
    """What to read of a set with these splits to train, validate and test on.

    Raises:
        UserError: if it has no training split.

    Example:

    >>> parts({"train", "test"})
    ('train[:85%]', 'train[85%:]', 'test')
    """
    validation = next((name for name in ("validation", "valid", "val", "dev") if name in names), None)
    if "train" not in names:
        raise UserError(f"the data set has no split named train. It has: {', '.join(sorted(names))}")
    if validation and "test" in names:
        return "train", validation, "test"
    if validation:
        return "train[:85%]", validation, "train[85%:]"
    if "test" in names:
        return "train[:85%]", "train[85%:]", "test"
    return "train[:70%]", "train[70%:85%]", "train[85%:]"
