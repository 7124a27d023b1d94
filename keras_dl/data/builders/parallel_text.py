"""Pairs of texts for translation, from files or TensorFlow Datasets."""

import dataclasses
import hashlib
import sys
from pathlib import Path

import tensorflow_datasets as tfds

from keras_dl.data import catalogue
from keras_dl.data.builders.base import BaseBuilder
from keras_dl.data.text_files import deal, read_lines
from keras_dl.errors import UserError

SHARES = (0.90, 0.05)
FEWEST = 20


@dataclasses.dataclass(eq=False)
class ParallelTextConfig(tfds.core.BuilderConfig):
    """The source of the pairs; see `ParallelText`."""

    pairs: str | None = None


class ParallelText(BaseBuilder):
    """Pairs of texts that are translations of each other.

    The pairs of files are split 90/5/5 by their source text, in an order that depends only on the source text and a
    seed, so that no source text is in two splits. Duplicate pairs and pairs with an empty side are dropped, and their
    numbers are printed. A data set of TensorFlow Datasets keeps its own splits.

    Features: `source`, `target`.

    Args:
        pairs: a file of lines `SOURCE<tab>TARGET`, in which further columns are ignored; `"SOURCE,TARGET"`, two files
            with the same number of lines; or a data set of TensorFlow Datasets with pairs of texts, such as
            `"tfds:ted_hrlr_translate/pt_to_en"`. Files are UTF-8.
    """

    SEED = 2024

    def __init__(self, pairs=None, **kwargs):
        if "config" in kwargs:
            pairs = kwargs["config"].pairs
        if pairs is None:
            raise UserError(
                "the data set parallel_text requires pairs=FILE, a file of lines SOURCE<tab>TARGET; "
                "pairs=SOURCE,TARGET, two files; or pairs=tfds:NAME"
            )
        if not pairs.startswith("tfds:"):
            # Read here, because the name of the configuration depends on the content.
            self._pairs, dropped = clean(read(pairs), pairs)
            for kind, count in dropped.items():
                if count:
                    print(f"{pairs}: dropped {count} {kind}{'' if count == 1 else 's'}", file=sys.stderr)
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

    def _examples(self, split, split_of):
        for key, (source, target) in enumerate(self._pairs):
            if split_of[source] == split:
                yield key, {"source": source, "target": target}


def read(pairs: str) -> list[tuple[str, str]]:
    """Reads pairs from one or two files, line by line, with surrounding whitespace removed.

    Raises:
        UserError: if a file cannot be read or is not UTF-8, a line has no tab, or two files differ in their number of
            lines.
    """
    names = [pairs] if Path(pairs).is_file() else pairs.split(",")
    if len(names) > 2:
        raise UserError(f"expected one file of pairs, or two files separated by a comma. Received: {pairs}")
    files = [read_lines(Path(name.strip())) for name in names]
    if len(files) == 2:
        if len(files[0]) != len(files[1]):
            counts = " and ".join(f"{name.strip()} {len(lines)}" for name, lines in zip(names, files, strict=True))
            raise UserError(f"two files of pairs must have the same number of lines. Received: {counts}")
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
    """Drops duplicate and incomplete pairs and returns `(pairs, {kind: number dropped})`.

    Raises:
        UserError: if there are fewer than 20 distinct source texts.

    Example:

    >>> pairs = [(str(n), "x") for n in range(20)]
    >>> clean([*pairs, ("", "y"), ("1", "x"), ("1", "z")], "some")[0][-2:], clean([*pairs, ("", "y")], "some")[1]
    ([('19', 'x'), ('1', 'z')], {'incomplete pair': 1, 'duplicate pair': 0})
    """
    complete = [pair for pair in pairs if all(pair)]
    unique = list(dict.fromkeys(complete))
    if len(dict(unique)) < FEWEST:
        raise UserError(f"expected at least {FEWEST} distinct texts with a translation. {name} has {len(dict(unique))}")
    return unique, {"incomplete pair": len(pairs) - len(complete), "duplicate pair": len(complete) - len(unique)}


def _translations(name):
    """Yields the examples of train, validation and test of a data set of TensorFlow Datasets, as generators."""
    builder = catalogue.find(name)
    keys = builder.info.supervised_keys
    if (
        not keys
        or len(keys) != 2
        or not all(isinstance(builder.info.features[key], tfds.features.Text) for key in keys)
    ):
        raise UserError(f"{name} is not a set of text pairs. Its features: {', '.join(builder.info.features)}")
    catalogue.prepare(builder, name)
    for part in catalogue.parts(set(builder.info.splits)):
        yield _numbered(builder.as_dataset(split=part, shuffle_files=False), *keys)


def _numbered(examples, source, target):
    for key, example in enumerate(tfds.as_numpy(examples)):
        yield key, {"source": example[source], "target": example[target]}
