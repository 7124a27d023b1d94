"""N-gram language models estimated from text."""

import collections
import dataclasses

import numpy as np

from keras_dl.ops.ngram.model import BEGIN, END, UNKNOWN, Entries, NGram

# Discounts of counts 1, 2 and 3 or more if they cannot be estimated from the text, as in KenLM.
FALLBACK = (0.5, 1.0, 1.5)


def kneser_ney(sentences, order=3, vocabulary=None, minimum_count=1):
    """Estimates an n-gram model with interpolated modified Kneser-Ney smoothing.

    ```
    p(w | h) = (c(h w) - D(c(h w))) / c(h .) + gamma(h) p(w | h')       D(0) = 0; p of no words is uniform
    gamma(h) = (D1 N1(h .) + D2 N2(h .) + D3 N3(h .)) / c(h .)          N1 words seen once after h, ..., N3 three times
    D1, D2, D3 = 1 - 2 Y n2/n1, 2 - 3 Y n3/n2, 3 - 4 Y n4/n3            or more; Y = n1 / (n1 + 2 n2)
    ```

    h' is h without its first word and n_k the number of n-grams with count k. For the longest ones, and those that
    start with `<s>`, c is the number of occurrences; for all others, the number of different preceding words. If the
    discounts of a length cannot be estimated (no n-grams with counts 1 to 4, or D outside 0 < D_k <= k), 0.5, 1 and 1.5
    are used.

    Args:
        sentences: iterable of lists of str, the words (or letters) of each sentence.
        order: int, the length of the longest n-grams. Defaults to 3.
        vocabulary: iterable of str, the words of the model, or None (default) for all words of the text. Other words
            count as `<unk>`.
        minimum_count: int; words with fewer occurrences count as `<unk>`. Defaults to 1. Ignored if there is a
            `vocabulary`.

    Returns:
        `NGram`.

    Raises:
        ValueError: if there are no sentences or the order is below 1, if a sentence is a str, or if one contains an
            item that is not a str, or `<s>` or `</s>`, which are added automatically.

    Example:

    >>> model = kneser_ney([["a", "b"], ["a", "c"]], order=2)
    >>> model.vocabulary
    ['<unk>', '<s>', '</s>', 'a', 'b', 'c']
    >>> likely, unlikely = model.score([["a", "b"], ["b", "a"]])
    >>> bool(likely > unlikely)
    True

    Reference: Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling", Computer
    Speech and Language 13(4), section 3; `<s>` and `<unk>` as in Heafield et al. 2013, "Scalable modified Kneser-Ney
    language model estimation", ACL.
    """
    if order < 1:
        raise ValueError(f"`order` must be at least 1. Received: {order}")
    words, tokens, sentence = _read(sentences, vocabulary, minimum_count)
    tables = _count(words, tokens, sentence, order)

    probability, entries = np.full(1, 1 / (len(words) - 1)), []  # zero-grams: uniform, without <s>
    for table in tables:
        discount = _discounts(table.counts)[np.minimum(table.counts, 3)]
        contexts = len(probability)
        total = np.bincount(table.prefix, table.counts, contexts)
        spread = np.divide(np.bincount(table.prefix, discount, contexts), total, out=np.ones(contexts), where=total > 0)
        if entries:
            entries[-1] = dataclasses.replace(entries[-1], backoff=np.log(spread))
        listed = (table.counts - discount) / np.maximum(total, 1)[table.prefix]
        probability = listed + spread[table.prefix] * probability[table.suffix]
        if not entries:
            probability[words.index(BEGIN)] = 1e-99  # as in ARPA files
        entries.append(Entries(table.grams, np.log(probability), np.zeros(len(probability))))
    return NGram(words, entries)


@dataclasses.dataclass(frozen=True)
class _Counted:
    """The sorted n-grams of one length; `prefix` and `suffix` are their rows in the table of shorter ones."""

    grams: np.ndarray
    counts: np.ndarray
    prefix: np.ndarray
    suffix: np.ndarray


def _read(sentences, vocabulary, minimum_count):
    """Returns the words of the model, all sentences as one array of indices, and the sentence of each index."""
    rows, marks = [], (UNKNOWN, BEGIN, END)
    for number, sentence in enumerate(sentences, 1):
        if isinstance(sentence, str):
            raise ValueError(f"Sentences must be lists of words. Received: a str as sentence {number}")
        rows.append(list(sentence))
        if strange := [word for word in rows[-1] if not isinstance(word, str)]:
            raise ValueError(f"Words must be str. Received: {strange[0]!r} in sentence {number}")
        if BEGIN in rows[-1] or END in rows[-1]:
            raise ValueError(f"Sentences must not contain {BEGIN} or {END}. Received: {rows[-1]} as sentence {number}")
    if not rows:
        raise ValueError("Expected at least one sentence. Received: none")
    if vocabulary is None:
        seen = collections.Counter(word for row in rows for word in row)
        vocabulary = [word for word, times in seen.items() if times >= minimum_count]
    words = [*marks, *(word for word in dict.fromkeys(vocabulary) if word not in marks)]
    index = {word: place for place, word in enumerate(words)}
    tokens = [index.get(word, 0) for row in rows for word in (BEGIN, *row, END)]
    return words, np.array(tokens, np.int64), np.repeat(np.arange(len(rows)), [len(row) + 2 for row in rows])


def _count(words, tokens, sentence, order):
    """Returns the n-grams of each length with their Kneser-Ney counts, as `_Counted`."""
    everything = np.zeros(len(words), np.int64)
    occurrences = np.bincount(tokens, minlength=len(words))
    tables = [_Counted(np.arange(len(words))[:, None], occurrences, everything, everything)]
    row = tokens  # the row of the gram that starts at each place, in the table of its length
    for length in range(2, order + 1):
        places = np.flatnonzero(sentence[: 1 - length] == sentence[length - 1 :])
        keys = row[places] * len(words) + tokens[places + length - 1]
        keys, first, found, occurrences = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        first = places[first]
        grams = tokens[first[:, None] + np.arange(length)]
        suffix = row[first + 1]
        shorter = tables[-1]
        continued = np.bincount(suffix, minlength=len(shorter.grams))
        counts = np.where(shorter.grams[:, 0] == words.index(BEGIN), shorter.counts, continued)
        tables[-1] = dataclasses.replace(shorter, counts=counts)
        tables.append(_Counted(grams, occurrences, keys // len(words), suffix))
        row = np.zeros(len(tokens), np.int64)
        row[places] = found
    tables[0].counts[words.index(BEGIN)] = 0
    return tables


def _discounts(counts):
    """Returns the discounts of counts 0, 1, 2 and 3 or more: float array `[4]`."""
    one, two, three, four = (int(np.sum(counts == times)) for times in (1, 2, 3, 4))
    if one and two and three:
        base = one / (one + 2 * two)
        discounts = np.array([1 - 2 * base * two / one, 2 - 3 * base * three / two, 3 - 4 * base * four / three])
        if four and (discounts > 0).all():
            return np.append(0, discounts)
    return np.array([0, *FALLBACK])
