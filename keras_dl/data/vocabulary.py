"""Vocabularies for `keras_dl.layers.Tokenizer`. Build them only from the training texts."""

import collections
import re


def characters(texts) -> list[str]:
    """Returns the sorted characters of texts.

    Args:
        texts: iterable of str, or of UTF-8 bytes as in data sets.

    Example:

    >>> characters(["zwei", b"eins"])
    ['e', 'i', 'n', 's', 'w', 'z']
    """
    return sorted(set().union(*map(_decoded, texts)))


def symbols(texts, at_least: int = 1) -> list[str]:
    """Returns the sorted whitespace-separated symbols of texts.

    Args:
        texts: iterable of str, or of UTF-8 bytes as in data sets.
        at_least: int, the minimum number of occurrences of a symbol. Defaults to 1.

    Example:

    >>> symbols(["K AE T", "AE T"]), symbols(["K AE T", "AE T"], at_least=2)
    (['AE', 'K', 'T'], ['AE', 'T'])
    """
    # TensorFlow splits at ASCII whitespace only.
    counts = collections.Counter(symbol for text in texts for symbol in re.findall(r"\S+", _decoded(text), re.ASCII))
    return sorted(symbol for symbol, count in counts.items() if count >= at_least)


def _decoded(text):
    return text.decode(errors="replace") if isinstance(text, bytes) else text
