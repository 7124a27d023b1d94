"""Plain text for language models: the source of Python's standard library, or a text file."""

import dataclasses
import hashlib
import platform
import sysconfig
from pathlib import Path

import tensorflow_datasets as tfds

from keras_dl.data.builders.base import BaseBuilder
from keras_dl.errors import UserError

CHARACTERS = {"train": 2_000_000, "validation": 100_000, "test": 100_000}
LONGEST_FILE = 20_000
SHORTEST_TEXT = 200
# Tests and installed packages; programs; generated tables.
SKIPPED = {
    *("test", "tests", "site-packages", "dist-packages", "__pycache__"),
    *("idlelib", "turtledemo", "lib2to3"),
    *("encodings", "pydoc_data"),
}


@dataclasses.dataclass(eq=False)
class PythonSourceConfig(tfds.core.BuilderConfig):
    """The source of the text: a file, or None (default) for the standard library of the running interpreter."""

    text: str | None = None


class PythonSource(BaseBuilder):
    """The text of the `.py` files in the standard library of the running interpreter.

    Files are split 90/5/5 by a hash of their names, so that no file is in two splits and a file has the same split in
    all versions of Python. In the order of that hash, each file contributes its first 20,000 characters, so that no
    module dominates, until the splits have 2,000,000/100,000/100,000 characters. The Python version is part of the
    configuration name, because the text depends on it.

    With `text=PATH`, the text of that file is used instead (UTF-8, any size): the first 90% for training, then 5% for
    validation and 5% for test, unshuffled, so that validation and test continue the training text.

    Features: `text`; `name`, the file name.

    Source: https://github.com/python/cpython/tree/main/Lib, Python Software Foundation License 2.0.
    """

    def __init__(self, text=None, **kwargs):
        if "config" not in kwargs:
            if text is None:
                name = f"python_{platform.python_version().replace('.', '_')}"
            else:
                name = f"text_{hashlib.sha256(read(Path(text)).encode()).hexdigest()[:16]}"
            kwargs["config"] = PythonSourceConfig(name=name, text=text)
        super().__init__(**kwargs)

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"text": tfds.features.Text(), "name": tfds.features.Text()}),
            homepage="https://docs.python.org/3/library/",
        )

    def _split_generators(self, dl_manager):
        path = self.builder_config.text
        if path is not None:
            return {split: [(split, {"text": part, "name": Path(path).name})] for split, part in cut(read(Path(path)))}
        parts = by_file(modules(Path(sysconfig.get_path("stdlib"))))
        return {split: self._examples(part) for split, part in parts.items()}

    def _examples(self, part):
        for name, text in part:
            yield name, {"text": text, "name": name}


def read(path):
    """Reads a text file.

    Raises:
        UserError: if the file cannot be read, is not UTF-8 (with line and byte), or is too short to split.
    """
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise UserError(f"cannot read the text {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line, byte = error.object.count(b"\n", 0, error.start) + 1, error.object[error.start]
        raise UserError(f"{path}:{line}: expected UTF-8 text. Received: byte 0x{byte:02x}") from error
    if len(text) < SHORTEST_TEXT:
        raise UserError(f"expected a text of at least {SHORTEST_TEXT} characters. {path} has {len(text)}")
    return text


def cut(text):
    """Splits a text 90/5/5: `[("train", str), ("validation", str), ("test", str)]`.

    Example:

    >>> [(split, len(part)) for split, part in cut("." * 200)]
    [('train', 180), ('validation', 10), ('test', 10)]
    """
    first, second = len(text) * 90 // 100, len(text) * 95 // 100
    return [("train", text[:first]), ("validation", text[first:second]), ("test", text[second:])]


def modules(folder):
    """Reads the non-empty UTF-8 `.py` files below a folder: `{name: text}`, ordered by name."""
    texts = {}
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder)
        # Build configuration differs between machines.
        if SKIPPED.intersection(name.parts) or name.name.startswith("_sysconfigdata"):
            continue
        try:
            text = path.read_bytes().decode()
        except (OSError, UnicodeDecodeError):
            continue
        if text:
            texts[name.as_posix()] = text
    if not texts:
        raise UserError(f"no .py files of the standard library found in {folder}; use text=FILE instead")
    return texts


def by_file(texts):
    """Assigns files to splits: `{name: text}` -> `{split: [(name, text), ...]}`.

    Example:

    >>> {split: len(files) for split, files in by_file({f"{n}.py": "pass" for n in range(1000)}).items()}
    {'train': 905, 'validation': 55, 'test': 40}
    """
    parts = {split: [] for split in CHARACTERS}
    room = dict(CHARACTERS)
    for position, name in sorted((_position(name), name) for name in texts):
        split = "train" if position < 0.90 else "validation" if position < 0.95 else "test"
        text = texts[name][: min(LONGEST_FILE, room[split])]
        room[split] -= len(text)
        if text:
            parts[split].append((name, text))
    return parts


def _position(name):
    """Hashes a name to a number from 0 to 1."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
