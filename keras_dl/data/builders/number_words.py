"""Number words in two languages: a small translation task with real reordering that needs no network."""

import dataclasses
import importlib.metadata

import numpy as np
import tensorflow_datasets as tfds

from keras_dl.data.builders.base import BaseBuilder
from keras_dl.errors import UserError

COUNTS = {"train": 20_000, "validation": 2_000, "test": 2_000}
LONGER = 1_000
WORDS = 100  # longer number words are composed of those below this number
SMALLEST, LARGEST = 1_000, 10**6


@dataclasses.dataclass(eq=False)
class NumberWordsConfig(tfds.core.BuilderConfig):
    """The languages and the range of numbers; see `NumberWords`."""

    languages: str = "de,en"
    largest: int = 100_000


class NumberWords(BaseBuilder):
    """Pairs of number words, such as `dreiundzwanzig` and `twenty-three`.

    24,000 numbers below `largest`, or all of them if there are fewer, each in exactly one split: five sixths (20,000)
    for training, the rest in equal parts for validation and test. They are drawn with probabilities proportional to
    `1 / sqrt(number)`, so that short numbers occur too, although most are long. All numbers below 100 are in the
    training split, because longer number words are composed of their words. A fourth split, `longer`, has 1000 numbers
    from `largest` to ten times that; `load` ignores it, but `keras_dl.data.sources.prepared` provides it. All draws
    derive from
    one seed.

    Features: `source` and `target`, the number words; `number` int64.

    Args:
        languages: two language codes of num2words, separated by a comma. Defaults to `"de,en"`.
        largest: int from 1000 to 1,000,000. Defaults to 100,000.

    Source: the num2words package; its installed version is part of the configuration name.
    """

    SEED = 2024

    def __init__(self, languages="de,en", largest=100_000, **kwargs):
        if "config" not in kwargs:
            if isinstance(largest, bool) or not isinstance(largest, int) or not SMALLEST <= largest <= LARGEST:
                raise UserError(f"largest must be an integer from {SMALLEST} to {LARGEST}. Received: {largest!r}")
            version = importlib.metadata.version("num2words").replace(".", "_")
            name = f"{'_'.join(pair(languages))}_{largest}_num2words_{version}"
            kwargs["config"] = NumberWordsConfig(name=name, languages=languages, largest=largest)
        super().__init__(**kwargs)

    def _info(self):
        text = tfds.features.Text
        features = {"source": text(), "target": text(), "number": tfds.features.Scalar(dtype=np.int64)}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("source", "target"),
            homepage="https://github.com/savoirfairelinux/num2words",
        )

    def _split_generators(self, dl_manager):
        parts = deal(self.builder_config.largest, self.SEED)
        return {split: self._examples(numbers) for split, numbers in parts.items()}

    def _examples(self, numbers):
        source, target = pair(self.builder_config.languages)
        for number in numbers.tolist():
            yield number, {"source": say(number, source), "target": say(number, target), "number": number}


def pair(languages):
    """Splits a string such as `"de,en"` into its two language codes.

    Raises:
        UserError: if there are not two codes, or num2words does not support one.
    """
    from num2words import CONVERTER_CLASSES

    codes = [code.strip() for code in str(languages).split(",")]
    if len(codes) != 2 or not set(codes) <= set(CONVERTER_CLASSES):
        known = ", ".join(sorted(CONVERTER_CLASSES))
        raise UserError(f"languages must be two of {known}, as in de,en. Received: {languages}")
    return codes


def say(number, language):
    """Returns a number in words, in lower case.

    Raises:
        UserError: if num2words does not support the number in that language.

    Example:

    >>> say(4021, "fr")
    'quatre mille vingt et un'
    """
    from num2words import num2words

    try:
        return num2words(number, lang=language).lower()
    except Exception as error:  # languages raise different errors for numbers that are too large
        reason = type(error).__name__
        raise UserError(f"num2words cannot convert {number} to words in {language!r}: {reason}") from error


def deal(largest, seed):
    """Draws the numbers of each split, int64 arrays, reproducibly for a seed.

    Example:

    >>> {split: len(numbers) for split, numbers in deal(100_000, seed=0).items()}
    {'train': 20000, 'validation': 2000, 'test': 2000, 'longer': 1000}
    """
    generator = np.random.default_rng(seed)
    wanted = min(sum(COUNTS.values()), largest) - WORDS
    # The largest keys are a weighted sample without replacement (Efraimidis and Spirakis 2006).
    numbers = np.arange(WORDS, largest)
    keys = np.log(generator.random(len(numbers))) * np.sqrt(numbers)
    chosen = generator.permutation(numbers[np.argsort(-keys, kind="stable")[:wanted]])
    tested = (wanted + WORDS) * COUNTS["test"] // sum(COUNTS.values())
    return {
        "train": np.concatenate([np.arange(WORDS), chosen[2 * tested :]]),
        "validation": chosen[:tested],
        "test": chosen[tested : 2 * tested],
        "longer": largest + generator.choice(9 * largest, LONGER, replace=False),
    }
