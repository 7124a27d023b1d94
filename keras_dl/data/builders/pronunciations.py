"""Words and their phones, from a pronouncing dictionary."""

import dataclasses
import hashlib
import lzma
import re
import zipfile
import zlib
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from keras_dl.data.builders.base import BaseBuilder
from keras_dl.data.text_files import deal
from keras_dl.errors import UserError

INVENTED = 8_000
SHARES = (0.90, 0.05)
FEWEST = 20
LARGEST = 200_000_000  # uncompressed bytes of an archive
ARCHIVE = b"PK\x03\x04"  # the first bytes of an archive
# Errors that zipfile raises for broken archives or members, passwords, and unknown compression methods.
BROKEN = (OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, NotImplementedError)
ONSETS = "b c ch d f g h j k kn l m n p ph qu r s sh st t th tr v w wr z".split()
VOWELS = "a a a e e e i i i o o o u u ai ar ay ea ee er igh oa oo ow".split()
CODAS = ["", "", "", *"b c ck d g l ll m n ng nn p r s ss st t tch th tt x".split()]
ENDS = ["", "", "", "e", "y"]

# Spellings and their phones, with alternatives separated by "|". The first rule that matches at a position applies.
RULES = [
    (re.compile(spelling), [phones.split() for phones in choices.split("|")])
    for spelling, choices in [
        ("^kn", "N"), ("^wr", "R"), ("tch|ch", "CH"), ("sh", "SH"), ("th", "TH"), ("ph", "F"), ("ck", "K"),
        ("qu", "K W"), ("ng$", "NG"), ("x", "K S"), ("c(?=[eiy])", "S"), ("c|k", "K"), ("g(?=[eiy])", "JH"),
        ("ee|ea", "IY"), ("oo", "UW"), ("ai|ay", "EY"), ("oa", "OW"), ("ow", "OW|AW"), ("igh", "AY"), ("ar", "AA R"),
        ("er", "ER"), ("a(?=[^aeiouy]e$)", "EY"), ("i(?=[^aeiouy]e$)", "AY"), ("o(?=[^aeiouy]e$)", "OW"),
        ("u(?=[^aeiouy]e$)", "UW"), ("e(?=[^aeiouy]e$)", "IY"), ("e$", ""), ("y$", "IY"), ("ll?", "L"), ("nn?", "N"),
        ("ss?", "S"), ("tt?", "T"), ("a", "AE"), ("e", "EH"), ("i", "IH"), ("o", "AA"), ("u", "AH"), ("b", "B"),
        ("d", "D"), ("f", "F"), ("g", "G"), ("h", "HH"), ("j", "JH"), ("m", "M"), ("n", "N"), ("p", "P"), ("r", "R"),
        ("v", "V"), ("w", "W"), ("y", "Y"), ("z", "Z"),
    ]
]  # fmt: skip


@dataclasses.dataclass(eq=False)
class PronunciationsConfig(tfds.core.BuilderConfig):
    """The source of the words; see `Pronunciations`."""

    dictionary: str | None = None
    stress: bool = False


class Pronunciations(BaseBuilder):
    """Spelled words and their phones.

    The words are split 90/5/5, in an order that depends only on the word and a seed, so that no word is in two splits.
    The training split has one example per pronunciation; validation and test have one example per word, whose `target`
    is the first pronunciation. Words are in lower case.

    Features: `source`, the word; `target`, its phones separated by spaces; `pronunciations`, all pronunciations of the
    word.

    Args:
        dictionary: a file in the format of the CMU Pronouncing Dictionary, or a zip archive that contains it; see
            `read`. None (default) for invented words: see `invented_words`.
        stress: bool, whether vowels keep their stress digit: 1 primary, 2 secondary, 0 no stress. Defaults to False.
    """

    SEED = 2024

    def __init__(self, dictionary=None, stress=False, **kwargs):
        if "config" in kwargs:
            dictionary, stress = kwargs["config"].dictionary, kwargs["config"].stress
        if dictionary is not None and str(dictionary).startswith("tfds:"):
            raise UserError(
                "TensorFlow Datasets has no pronouncing dictionary: expected a file in the format of the CMU "
                f"Pronouncing Dictionary, or a zip archive that contains it. Received: {dictionary}"
            )
        # Read here, because the name of the configuration depends on the content.
        self._words = invent(INVENTED, self.SEED) if dictionary is None else read(Path(dictionary), stress)
        if "config" not in kwargs:
            digest = hashlib.sha256(repr(sorted(self._words.items())).encode()).hexdigest()[:16]
            name = f"{'invented' if dictionary is None else 'dictionary'}_{digest}"
            kwargs["config"] = PronunciationsConfig(name=name, dictionary=dictionary, stress=stress)
        super().__init__(**kwargs)

    def _info(self):
        text = tfds.features.Text
        features = {"source": text(), "target": text(), "pronunciations": tfds.features.Sequence(text())}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("source", "target"),
            homepage="http://www.speech.cs.cmu.edu/cgi-bin/cmudict",
        )

    def _split_generators(self, dl_manager):
        split_of = deal(self._words, str(self.SEED), SHARES)
        return {split: self._examples(split, split_of) for split in ("train", "validation", "test")}

    def _examples(self, split, split_of):
        for word, pronunciations in self._words.items():
            if split_of[word] == split:
                texts = [" ".join(phones) for phones in pronunciations]
                for number, target in enumerate(texts if split == "train" else texts[:1]):
                    yield f"{word} {number}", {"source": word, "target": target, "pronunciations": texts}


def read(path: Path, stress: bool = False) -> dict[str, list[list[str]]]:
    """Reads a dictionary file: `{word: [phones, ...]}`, without duplicates.

    A line has a word and its phones; the number of the pronunciation may follow the word, as `WORD 2 PH PH` or
    `WORD(2) PH PH`. Lines that begin with `;;;` and text after ` # ` are comments. The encoding is UTF-8, or Latin-1 as
    in older versions. From a zip archive, the file named `cmudict` or `cmudict.dict` is read, or its only file.

    Raises:
        UserError: if the file cannot be read, a line has no phones, or there are fewer than 20 words.
    """
    content = _content(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    words = {}
    for number, line in enumerate(text.split("\n"), start=1):
        fields = line.partition(" # ")[0].split()
        if not fields or line.startswith(";;;"):
            continue
        word, phones = re.sub(r"(?<=.)\(\d+\)$", "", fields[0]).lower(), fields[1:]
        if phones and phones[0].isdecimal():
            phones = phones[1:]
        if not phones:
            raise UserError(f"{path}:{number}: expected a word and its phones. Received: {line.strip()[:60]!r}")
        if not stress:
            phones = [re.sub("(?<=.)[012]$", "", phone) for phone in phones]
        known = words.setdefault(word, [])
        if phones not in known:
            known.append(phones)
    if len(words) < FEWEST:
        raise UserError(f"expected a pronouncing dictionary of at least {FEWEST} words. {path} has {len(words)}")
    return words


def _content(path):
    try:
        if not zipfile.is_zipfile(path):
            content = path.read_bytes()
            if content.startswith(ARCHIVE):
                raise zipfile.BadZipFile("the zip archive is damaged or truncated")
            return content
        with zipfile.ZipFile(path) as archive:
            files = [member for member in archive.infolist() if not member.is_dir()]
            named = [member for member in files if Path(member.filename).name in ("cmudict", "cmudict.dict")]
            if len(named or files) != 1:
                found = ", ".join(member.filename for member in files[:10]) or "no files"
                raise UserError(f"expected one file named cmudict in {path}. Received: {found}")
            with archive.open((named or files)[0]) as member:
                content = member.read(LARGEST + 1)
    except BROKEN as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read the dictionary {path}: {reason}") from error
    if len(content) > LARGEST:
        raise UserError(f"the dictionary in {path} has more than {LARGEST // 1_000_000} MB")
    return content


def invent(count: int, seed: int) -> dict[str, list[list[str]]]:
    """Generates distinct words with their pronunciations, reproducibly for a seed: `{word: [phones, ...]}`.

    Example:

    >>> len(invent(100, seed=0))
    100
    """
    generator, words = np.random.default_rng(seed), {}
    while len(words) < count:
        syllables = (
            "".join(parts[generator.integers(len(parts))] for parts in (ONSETS, VOWELS, CODAS))
            for _ in range(generator.integers(1, 4))
        )
        word = "".join(syllables) + ENDS[generator.integers(len(ENDS))]
        words[word] = pronounce(word)
    return words


def pronounce(word: str) -> list[list[str]]:
    """Returns the pronunciations of a word according to the rules.

    Example:

    >>> pronounce("knight"), pronounce("cow")
    ([['N', 'AY', 'T']], [['K', 'OW'], ['K', 'AW']])
    """
    read, position = [[]], 0
    while position < len(word):
        found, choices = next((m, choices) for rule, choices in RULES if (m := rule.match(word, position)))
        read = [before + phones for before in read for phones in choices]
        position = found.end()
    return read
