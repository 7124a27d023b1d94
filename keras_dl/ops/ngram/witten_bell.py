"""N-gram models of bytes: counts and interpolated probabilities, in NumPy.

Shapes: N bytes. A gram of n bytes is a 64-bit integer with the last byte lowest, so the order is at most 8. Bytes
before the text are 0.
"""

import dataclasses

import numpy as np

LONGEST = 8


@dataclasses.dataclass(frozen=True)
class Table:
    """The counts of one order.

    Args:
        grams: uint64 `[G]`, increasing.
        counts: int64 `[G]`, the number of occurrences of each gram.
        contexts: uint64 `[H]`, increasing, the grams without their last byte.
        totals: int64 `[H]`, the number of occurrences of each context.
        kinds: int64 `[H]`, the number of distinct bytes that follow it.
    """

    grams: np.ndarray
    counts: np.ndarray
    contexts: np.ndarray
    totals: np.ndarray
    kinds: np.ndarray


def count(text, order):
    """Counts the n-grams of a text.

    Args:
        text: bytes, not empty.
        order: int from 1 to 8, the longest gram.

    Returns:
        list of `Table`, of order 1, 2, ... `order`.

    Raises:
        ValueError: if the text is empty or the order is out of range.

    Example:

    >>> first, second = count(b"abab", order=2)
    >>> first.counts.tolist(), first.totals.tolist()
    ([2, 2], [4])
    >>> [chr(context) for context in second.contexts], second.kinds.tolist()
    (['\\x00', 'a', 'b'], [1, 1, 1])
    """
    if not text or not 1 <= order <= LONGEST:
        raise ValueError(f"Expected text and an order from 1 to {LONGEST}. Received: {len(text)} bytes, order {order}")
    tables = []
    for grams in _grams(text, order):
        grams, counts = np.unique(grams, return_counts=True)
        contexts, first, kinds = np.unique(grams >> np.uint64(8), return_index=True, return_counts=True)
        tables.append(Table(grams, counts, contexts, np.add.reduceat(counts, first), kinds))
    return tables


def witten_bell(tables, text):
    """Returns the probability of each byte of a text given the previous bytes, for each order.

    `p_n(w | h) = (c(h w) + k(h) p_(n-1)(w | h')) / (c(h) + k(h))`: c is the number of occurrences, k(h) the number of
    distinct bytes after h, h' is h without its first byte, and p_0 is uniform. Unseen contexts fall back to the shorter
    context.

    Args:
        tables: list of `Table`, from `count`.
        text: bytes.

    Returns:
        float64 `[len(tables), N]`; row n belongs to the model of order n + 1.

    Example:

    >>> witten_bell(count(b"abab", order=2), b"ab").round(3).tolist()
    [[0.335, 0.335], [0.667, 0.778]]

    Reference: Witten and Bell 1991, "The zero-frequency problem", IEEE Transactions on Information Theory 37(4),
    method C.
    """
    probability, rows = np.full(len(text), 1 / 256), []
    for table, grams in zip(tables, _grams(text, len(tables)), strict=True):
        contexts = grams >> np.uint64(8)
        seen = _look_up(table.grams, table.counts, grams)
        total, kinds = (_look_up(table.contexts, values, contexts) for values in (table.totals, table.kinds))
        mixed = (seen + kinds * probability) / np.maximum(total + kinds, 1)
        probability = np.where(total > 0, mixed, probability)
        rows.append(probability)
    return np.stack(rows)


def _grams(text, order):
    """Yields the gram that ends at each byte, uint64 `[N]`, for each order from 1 to `order`."""
    values = np.frombuffer(text, np.uint8).astype(np.uint64)
    grams = np.zeros_like(values)
    for shift in range(order):
        earlier = np.concatenate([np.zeros(shift, np.uint64), values])[: len(values)]
        grams = grams | (earlier << np.uint64(8 * shift))
        yield grams


def _look_up(keys, values, wanted):
    """Returns `values` at the places where the sorted `keys` are `wanted`, and 0 for missing keys."""
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)
