"""N-gram language models counted from text."""

import collections
import dataclasses

import numpy as np

from keras_dl.ops.ngram.model import BEGIN, END, UNKNOWN, Entries, NGram

# What is taken off a count of 1, 2 and 3 or more where a text is too small or too odd to tell; KenLM's choice.
FALLBACK = (0.5, 1.0, 1.5)


def kneser_ney(sentences, order=3, vocabulary=None, minimum_count=1):
    """Counts an n-gram model with interpolated modified Kneser-Ney smoothing.

    ```
    p(w | h) = (c(h w) - D(c(h w))) / c(h .) + gamma(h) p(w | h')       D(0) = 0; p of no words is uniform
    gamma(h) = (D1 N1(h .) + D2 N2(h .) + D3 N3(h .)) / c(h .)          N1 words seen once after h, ..., N3 three times
    D1, D2, D3 = 1 - 2 Y n2/n1, 2 - 3 Y n3/n2, 3 - 4 Y n4/n3            and more; Y = n1 / (n1 + 2 n2)
    ```

    h' is h without its first word and n_k is how many grams have count k. For the longest grams, and for those that
    begin with `<s>`, c is how often they were seen; for all others, how many different words preceded them. Where the
    discounts of a length cannot be estimated (a text without grams of counts 1 to 4, or D outside 0 < D_k <= k), 0.5,
    1 and 1.5 are taken.

    Args:
        sentences: iterable of lists of str, the words (or letters) of each sentence.
        order: int, the length of the longest grams. Defaults to 3.
        vocabulary: iterable of str, the words of the model, or None (default) for all words of the text. Other words
            count as `<unk>`.
        minimum_count: int; words seen less often count as `<unk>`, unless a `vocabulary` says which do. Defaults to 1.

    Returns:
        `NGram`.

    Raises:
        ValueError: if there is no sentence or the order is below 1, if a sentence is a str, or if one holds what is
            no str, or `<s>` or `</s>`, which are set here.

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
        raise ValueError(f"expected an order of at least 1. Received: {order}")
    words, tokens, sentence = _read(sentences, vocabulary, minimum_count)
    tables = _count(words, tokens, sentence, order)

    probability, entries = np.full(1, 1 / (len(words) - 1)), []  # of nothing: uniform; <s> is given, never guessed
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
            probability[words.index(BEGIN)] = 1e-99  # as ARPA files have it
        entries.append(Entries(table.grams, np.log(probability), np.zeros(len(probability))))
    return NGram(words, entries)


@dataclasses.dataclass(frozen=True)
class _Counted:
    """The grams of one length, sorted; `prefix` and `suffix` are rows of the table one shorter, without a word."""

    grams: np.ndarray
    counts: np.ndarray
    prefix: np.ndarray
    suffix: np.ndarray


def _read(sentences, vocabulary, minimum_count):
    """The words of the model, all sentences as one array of their indices, and which sentence each belongs to."""
    rows, marks = [], (UNKNOWN, BEGIN, END)
    for number, sentence in enumerate(sentences, 1):
        if isinstance(sentence, str):
            raise ValueError(f"sentence {number} is a str: split it into words, or give list(...) of its characters")
        rows.append(list(sentence))
        if strange := [word for word in rows[-1] if not isinstance(word, str)]:
            raise ValueError(f"expected words that are str. Received: {strange[0]!r} in sentence {number}")
        if BEGIN in rows[-1] or END in rows[-1]:
            raise ValueError(f"sentence {number} holds {BEGIN} or {END}, which are set here: {rows[-1]}")
    if not rows:
        raise ValueError("expected at least one sentence. Received: none")
    if vocabulary is None:
        seen = collections.Counter(word for row in rows for word in row)
        vocabulary = [word for word, times in seen.items() if times >= minimum_count]
    words = [*marks, *(word for word in dict.fromkeys(vocabulary) if word not in marks)]
    index = {word: place for place, word in enumerate(words)}
    tokens = [index.get(word, 0) for row in rows for word in (BEGIN, *row, END)]
    return words, np.array(tokens, np.int64), np.repeat(np.arange(len(rows)), [len(row) + 2 for row in rows])


def _count(words, tokens, sentence, order):
    """The grams of each length with the counts that Kneser and Ney give them, as `_Counted`."""
    everything = np.zeros(len(words), np.int64)
    occurrences = np.bincount(tokens, minlength=len(words))
    tables = [_Counted(np.arange(len(words))[:, None], occurrences, everything, everything)]
    row = tokens  # of the gram that begins at each place, in the table of its length
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
    """What is taken off counts of 0, 1, 2 and 3 or more: float array `[4]`."""
    one, two, three, four = (int(np.sum(counts == times)) for times in (1, 2, 3, 4))
    if one and two and three:
        base = one / (one + 2 * two)
        discounts = np.array([1 - 2 * base * two / one, 2 - 3 * base * three / two, 3 - 4 * base * four / three])
        if four and (discounts > 0).all():
            return np.append(0, discounts)
    return np.array([0, *FALLBACK])
