"""Labeled texts for classification."""

import collections
import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from keras_dl.data import catalogue
from keras_dl.data.builders.base import BaseBuilder
from keras_dl.data.text_files import deal, read_lines
from keras_dl.errors import UserError

INVENTED = 4_000
SHARES = (0.80, 0.10)
FEWEST = 10  # texts per label
NAMED = 10  # maximum number of labels listed in an error message
THINGS = "acting cast dialogue direction ending film music pace photography plot script story".split()
WORDS = {
    "positive": "brilliant charming clever delightful fresh funny good moving original wonderful".split(),
    "negative": "awful bad boring clumsy dull flat predictable silly tedious weak".split(),
}
DEGREES = ["", "", "very ", "rather ", "quite "]
OPINIONS = [
    "i find the {thing} {opinion}",
    "to me the {thing} is {opinion}",
    "for my part , the {thing} seemed {opinion}",
]
OTHERS = ["my friends call the {thing} {opinion}", "some say that the {thing} is {opinion}", "they found it {opinion}"]
FACTS = [
    "it lasts two hours", "we saw it on a monday", "the {thing} is by a newcomer", "it was shot in the north",
    "there is a scene with a train", "the {thing} comes from a book", "nobody left before the end",
]  # fmt: skip


@dataclasses.dataclass(eq=False)
class LabelledTextConfig(tfds.core.BuilderConfig):
    """The source of the texts; see `LabelledText`."""

    texts: str | None = None


class LabelledText(BaseBuilder):
    """Texts of two or more classes.

    The texts of each label are split 80/10/10, in an order that depends only on the text and a seed. Duplicates are
    dropped, so that no text is in two splits; a text with several labels keeps the first. A data set of TensorFlow
    Datasets keeps its own splits, except a test split with hidden labels (-1).

    Features: `text`, `label`.

    Args:
        texts: a file of lines `LABEL<tab>TEXT`; one file per label with one text per line, as `pos=FILE,neg=FILE` or as
            a folder with `pos.txt` and `neg.txt`; or a data set of TensorFlow Datasets with a text and a class, such as
            `"tfds:imdb_reviews"`. Files are UTF-8. None (default) for invented opinions: see `invented_opinions`.
    """

    SEED = 2024

    def __init__(self, texts=None, **kwargs):
        if "config" in kwargs:
            texts = kwargs["config"].texts
        self._set = None
        if texts is not None and texts.startswith("tfds:"):
            self._set = catalogue.find(texts)
            self._keys = text_and_class(self._set.info, texts)
            name = catalogue.copy_name(self._set)
        else:
            # Read here, because the name of the configuration depends on the content.
            self._texts = dict(invent(INVENTED, self.SEED)) if texts is None else read(texts)
            digest = hashlib.sha256(repr(list(self._texts.items())).encode()).hexdigest()[:16]
            name = f"{'invented' if texts is None else 'files'}_{digest}"
        if "config" not in kwargs:
            kwargs["config"] = LabelledTextConfig(name=name, texts=texts)
        super().__init__(**kwargs)

    def _info(self):
        if self._set is not None:
            names = self._set.info.features[self._keys[1]].names
        else:
            names = sorted(set(self._texts.values()))
        features = {"text": tfds.features.Text(), "label": tfds.features.ClassLabel(names=names)}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), supervised_keys=("text", "label")
        )

    def _split_generators(self, dl_manager):
        splits = ("train", "validation", "test")
        if self._set is not None:
            return dict(zip(splits, self._tfds_examples(), strict=True))
        split_of = {}
        for label in sorted(set(self._texts.values())):
            split_of |= deal([text for text, own in self._texts.items() if own == label], str(self.SEED), SHARES)
        return {split: self._examples(split, split_of) for split in splits}

    def _examples(self, split, split_of):
        for key, (text, label) in enumerate(self._texts.items()):
            if split_of[text] == split:
                yield key, {"text": text, "label": label}

    def _tfds_examples(self):
        catalogue.prepare(self._set, self.builder_config.texts)
        hidden = {split for split in self._set.info.splits if self._first_label(split) < 0}
        for part in catalogue.parts(set(self._set.info.splits) - hidden):
            yield _numbered(self._set.as_dataset(split=part, shuffle_files=False), *self._keys)

    def _first_label(self, split):
        return int(next(iter(self._set.as_dataset(split=split, shuffle_files=False)))[self._keys[1]])


def read(texts: str) -> dict[str, str]:
    """Reads labeled texts from a file, several files or a folder: `{text: label}`, in the order of the files.

    Raises:
        UserError: if a file cannot be read or is not UTF-8, a line has no tab, there are fewer than two labels, or a
            label has fewer than 10 distinct texts.
    """
    found, path = [], Path(texts)
    if path.is_file():
        for number, line in enumerate(read_lines(path), start=1):
            label, tab, text = line.partition("\t")
            if line.strip() and not (tab and label.strip()):
                raise UserError(f"{texts}:{number}: expected LABEL<tab>TEXT. Received: {line[:60]!r}")
            found.append((text.strip(), label.strip()))
    else:
        if path.is_dir():
            files = {file.stem: file for file in sorted(path.glob("*.txt"))}
        else:
            files = {label.strip(): name.strip() for label, _, name in (p.partition("=") for p in texts.split(","))}
        if not files or not all(files) or not all(files.values()):
            raise UserError(
                "expected a file of lines LABEL<tab>TEXT, a folder with a file LABEL.txt for each label, or "
                f"LABEL=FILE,LABEL=FILE. Received: {texts}, which matches no file"
            )
        for label, file in files.items():
            found += [(line.strip(), label) for line in read_lines(Path(file))]
    labeled = {}
    for text, label in found:
        if text:
            labeled.setdefault(text, label)
    counts = collections.Counter(labeled.values())
    if len(counts) < 2 or min(counts.values()) < FEWEST:
        received = ", ".join(f"{label} {counts[label]}" for label in sorted(counts)[:NAMED]) or "no texts"
        if len(counts) > NAMED:
            received = f"{len(counts)} labels: {received}, ..."
        raise UserError(f"expected at least two labels with {FEWEST} distinct texts each. {texts} has: {received}")
    return labeled


def text_and_class(info: tfds.core.DatasetInfo, name: str) -> tuple[str, str]:
    """Returns the names of the text feature and the class feature of a data set of TensorFlow Datasets.

    Raises:
        UserError: if it does not have exactly one of each.
    """
    kinds = (tfds.features.Text, tfds.features.ClassLabel)
    keys = [[key for key, value in info.features.items() if isinstance(value, kind)] for kind in kinds]
    if any(len(found) != 1 for found in keys):
        raise UserError(f"{name} must have one text and one class feature. Received: {', '.join(info.features)}")
    return keys[0][0], keys[1][0]


def _numbered(examples, text, label):
    for key, example in enumerate(tfds.as_numpy(examples)):
        yield key, {"text": example[text], "label": int(example[label])}


def invent(count: int, seed: int) -> list[tuple[str, str]]:
    """Generates `count` pairs `(text, label)` with distinct texts, reproducibly for a seed.

    Example:

    >>> texts = invent(100, seed=0)
    >>> len(texts), sorted({label for _, label in texts})
    (100, ['negative', 'positive'])
    """
    generator, found = np.random.default_rng(seed), {}

    def choose(options):
        return options[generator.integers(len(options))]

    def opinion(label):
        negated = generator.random() < 0.4
        kind = label if not negated else next(other for other in WORDS if other != label)
        return f"{'not ' if negated else ''}{choose(DEGREES)}{choose(WORDS[kind])}"

    while len(found) < count:
        label = choose(list(WORDS))
        sentences = [choose(OPINIONS).format(thing=choose(THINGS), opinion=opinion(label))]
        for _ in range(generator.integers(1, 5)):
            other = choose(OTHERS if generator.random() < 0.4 else FACTS)
            sentence = other.format(thing=choose(THINGS), opinion=opinion(choose(list(WORDS))))
            sentences.insert(generator.integers(len(sentences) + 1), sentence)
        found[" . ".join(sentences) + " ."] = label
    return list(found.items())
