"""The symbols of texts, for a `keras_dl.layers.Tokenizer`. Give them the texts to train on, and no others."""

import collections
import re


def characters(texts) -> list[str]:
    """Every character of texts, in order.

    Args:
        texts: iterable of str, or of bytes in UTF-8 as data sets have them.

    Example:

    >>> characters(["zwei", b"eins"])
    ['e', 'i', 'n', 's', 'w', 'z']
    """
    return sorted(set().union(*map(_decoded, texts)))


def symbols(texts, at_least: int = 1) -> list[str]:
    """Everything that stands between blanks in texts, in order.

    Args:
        texts: iterable of str, or of bytes in UTF-8 as data sets have them.
        at_least: int, how often a symbol must come to be one. Defaults to 1.

    Example:

    >>> symbols(["K AE T", "AE T"]), symbols(["K AE T", "AE T"], at_least=2)
    (['AE', 'K', 'T'], ['AE', 'T'])
    """
    # ASCII's blanks alone: those at which TensorFlow splits.
    counts = collections.Counter(symbol for text in texts for symbol in re.findall(r"\S+", _decoded(text), re.ASCII))
    return sorted(symbol for symbol, count in counts.items() if count >= at_least)


def _decoded(text):
    return text.decode(errors="replace") if isinstance(text, bytes) else text
