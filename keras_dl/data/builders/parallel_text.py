"""Texts in two languages, line by line."""

import dataclasses
import hashlib
import sys
from pathlib import Path

import tensorflow_datasets as tfds

from keras_dl.data import catalogue
from keras_dl.data.text_files import deal, read_lines
from keras_dl.errors import UserError

SHARES = (0.90, 0.05)
FEWEST = 20


@dataclasses.dataclass(eq=False)
class ParallelTextConfig(tfds.core.BuilderConfig):
    """Where the pairs come from.

    Args:
        pairs: a file, two files with a comma between them, or a set of TensorFlow Datasets.
    """

    pairs: str | None = None


class ParallelText(tfds.core.GeneratorBasedBuilder):
    """Pairs of texts, one a translation of the other.

    Files are split, 90/5/5, by the source and in an order that depends on it and a seed alone: no source, and so no
    pair, is in two splits. A pair that comes again is left out, and so is one with an empty side; how many these were
    is said when they are read. A set of TensorFlow Datasets keeps its own splits.

    Features: `source`, `target`.

    Args:
        pairs: a file with a pair a line, `SOURCE<tab>TARGET` and perhaps more columns, which are left alone;
            `"SOURCE,TARGET"`, two files of equally many lines; or a set of TensorFlow Datasets with pairs of texts,
            `"tfds:ted_hrlr_translate/pt_to_en"`. Files are UTF-8.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First."}
    SEED = 2024

    def __init__(self, pairs=None, **kwargs):
        if "config" in kwargs:
            pairs = kwargs["config"].pairs
        if pairs is None:
            raise UserError(
                "the data set parallel_text needs texts: pairs=FILE with SOURCE<tab>TARGET a line, two files "
                "pairs=SOURCE,TARGET, or pairs=tfds:NAME"
            )
        if not pairs.startswith("tfds:"):
            # Read once, for what they are is the name of the configuration.
            self._pairs, skipped = clean(read(pairs), pairs)
            for why, count in skipped.items():
                if count:
                    print(f"{pairs}: left out {count} {'pair' if count == 1 else 'pairs'} {why}", file=sys.stderr)
        if "config" not in kwargs:
            if pairs.startswith("tfds:"):
                name = catalogue.copy_name(catalogue.find(pairs))
            else:
                name = f"files_{hashlib.sha256(repr(self._pairs).encode()).hexdigest()[:16]}"
            kwargs["config"] = ParallelTextConfig(name=name, pairs=pairs)
        super().__init__(**kwargs)

    def _info(self):
        text = tfds.features.Text
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"source": text(), "target": text()}),
            supervised_keys=("source", "target"),
        )

    def _split_generators(self, dl_manager):
        splits = ("train", "validation", "test")
        if self.builder_config.pairs.startswith("tfds:"):
            return dict(zip(splits, _translations(self.builder_config.pairs), strict=True))
        split_of = deal(dict(self._pairs), str(self.SEED), SHARES)
        return {split: self._examples(split, split_of) for split in splits}

    def _generate_examples(self):
        raise AssertionError("_split_generators returns the generators themselves")

    def _examples(self, split, split_of):
        for key, (source, target) in enumerate(self._pairs):
            if split_of[source] == split:
                yield key, {"source": source, "target": target}


def read(pairs: str) -> list[tuple[str, str]]:
    """The pairs of a file, or of two, line by line, without blanks at their ends.

    Raises:
        UserError: if a file cannot be read or is not UTF-8, a line has no tab, or two files differ in their lines.
    """
    names = [pairs] if Path(pairs).is_file() else pairs.split(",")
    if len(names) > 2:
        raise UserError(f"expected one file of pairs, or two with a comma between them. Received: {pairs}")
    files = [read_lines(Path(name.strip())) for name in names]
    if len(files) == 2:
        if len(files[0]) != len(files[1]):
            counts = " and ".join(f"{name.strip()} {len(lines)}" for name, lines in zip(names, files, strict=True))
            raise UserError(f"two files of pairs must have equally many lines. Received: {counts}")
        found = zip(*files, strict=True)
    else:
        found = []
        for number, line in enumerate(files[0], start=1):
            columns = line.split("\t")
            if len(columns) < 2 and line.strip():
                raise UserError(f"{pairs}:{number}: expected SOURCE<tab>TARGET. Received: {line[:60]!r}")
            found.append((columns + [""])[:2])
    return [(source.strip(), target.strip()) for source, target in found]


def clean(pairs, name):
    """Pairs without repeats and without empty sides, and how many of both there were: `(pairs, {why: count})`.

    Raises:
        UserError: if there are fewer than 20 different sources.

    Example:

    >>> pairs = [(str(n), "x") for n in range(20)]
    >>> clean([*pairs, ("", "y"), ("1", "x"), ("1", "z")], "some")[0][-2:], clean([*pairs, ("", "y")], "some")[1]
    ([('19', 'x'), ('1', 'z')], {'with an empty side': 1, 'that had come before': 0})
    """
    whole = [pair for pair in pairs if all(pair)]
    unique = list(dict.fromkeys(whole))
    if len(dict(unique)) < FEWEST:
        raise UserError(
            f"expected at least {FEWEST} different texts with a translation. {name} has {len(dict(unique))}"
        )
    return unique, {"with an empty side": len(pairs) - len(whole), "that had come before": len(whole) - len(unique)}


def _translations(name):
    """The examples of train, validation and test of a set of TensorFlow Datasets, as generators."""
    builder = catalogue.find(name)
    keys = builder.info.supervised_keys
    if (
        not keys
        or len(keys) != 2
        or not all(isinstance(builder.info.features[key], tfds.features.Text) for key in keys)
    ):
        raise UserError(f"{name} holds no pairs of texts. It has: {', '.join(builder.info.features)}")
    catalogue.prepare(builder, name)
    for part in catalogue.parts(set(builder.info.splits)):
        yield _numbered(builder.as_dataset(split=part, shuffle_files=False), *keys)


def _numbered(examples, source, target):
    for key, example in enumerate(tfds.as_numpy(examples)):
        yield key, {"source": example[source], "target": example[target]}
