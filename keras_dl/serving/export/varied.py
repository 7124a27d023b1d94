"""Rows of any content, made of an example: what shows whether a row's answer depends on other rows or on padding.

An example alone shows little: behind positive numbers a zero is never the largest, and beside rows of one class nobody
sees whose class was taken. So the content goes beyond the example's. A model may refuse some of it, which is no
evidence of anything: then it is asked for less.
"""

from collections.abc import Callable

import numpy as np

from keras_dl.serving.export.clean import ModelFailed
from keras_dl.serving.export.rows import Arrays, Shapes, content, cut

# More rows than any rule for small batches would see; few enough rows of a long example to be answered in seconds.
_MOST_ROWS, _MOST_ELEMENTS = 16, 1_600_000
_LETTERS = "abcdefghijklmnopqrstuvwxyz 0123456789"
KEPT = -1


def answered_rows(answer: Callable[[Arrays], Arrays], shapes: Shapes, request: Arrays) -> tuple[Arrays, Arrays]:
    """Rows of an example's shape and of as different content as the model answers, and its answer to all of them.

    Args:
        answer: answers a signature's inputs, or raises `ModelFailed`.
        shapes: of its inputs.
        request: an example with a row or more; strings as object arrays of bytes.

    Raises:
        ModelFailed: not even the example's own values in another order are answered.
    """
    boldest = dict.fromkeys(request, 0)
    try:
        rows = varied(request, shapes, boldest)
        return rows, answer(rows)
    except ModelFailed:
        pass
    # A whole number may be a length or a class, of which not every one is allowed: each input for itself.
    chosen = dict.fromkeys(request, KEPT)
    rows = varied(request, shapes, chosen)
    together = answer(rows)
    for name, array in request.items():
        for boldness in range(_steps(array)):
            bolder = varied(request, shapes, chosen | {name: boldness})
            try:
                together = answer(bolder)
            except ModelFailed:
                continue
            rows, chosen[name] = bolder, boldness
            break
    return rows, together


def varied(request: Arrays, shapes: Shapes, boldness: dict[str, int]) -> Arrays:
    """Rows of an example's shape and of other content, every second one with zeros behind.

    Args:
        request: an example; strings as object arrays of bytes.
        shapes: of its inputs.
        boldness: for each input 0 for any content, larger numbers for whole numbers of smaller ranges, `KEPT` for the
            example's own values in another order.

    Returns:
        The example's own rows and more, 3 to 16; the same ones each time.
    """
    draw = np.random.default_rng(0)
    size = max(array.size // len(array) for array in request.values())
    rows = {name: [] for name in request}
    for index in range(int(np.clip(_MOST_ELEMENTS // max(size, 1), 3, _MOST_ROWS))):
        share = 1.0 if index % 2 == 0 else draw.uniform(0.3, 0.9)
        for name, array in request.items():
            row = content(array, index % len(array))
            if index >= len(array):
                row = _vary(row, index, boldness[name], draw)
            rows[name].append(cut(row, shapes[name], share))
    return {name: np.stack(each) for name, each in rows.items()}


def _steps(array):
    """How many boldnesses an input has."""
    return max(1, len(_ranges(array))) if array.dtype.kind in "iu" else 1


def _ranges(array):
    """Ranges to draw whole numbers from, the widest first: lengths may not be 0, nor classes beyond the largest."""
    low, high, limits = int(array.min(initial=0)), int(array.max(initial=0)), np.iinfo(array.dtype)
    smallest = int(array.min()) if array.size else 0
    found = [(low, high + 3), (min(smallest, 1), high + 3), (low, high), (min(smallest, 1), high), (smallest, high + 1)]
    return [(first, last) for first, last in found if first < last <= limits.max]


def _vary(row, index, boldness, draw):
    if row.dtype == object:
        return _vary_text(row, index, boldness, draw)
    if row.ndim:
        row = draw.permutation(row)  # what stands in it stays allowed: tokens, pixels, samples
    if row.dtype.kind == "f":
        return _vary_numbers(row, index, boldness, draw).astype(row.dtype)
    if boldness == KEPT:
        return row
    if row.dtype.kind == "b":
        return np.asarray(draw.integers(0, 2, row.shape) if index % 2 else ~row, bool)
    if row.dtype.kind in "iu" and (ranges := _ranges(row)):
        low, high = ranges[min(boldness, len(ranges) - 1)]
        return np.asarray(draw.integers(low, high, row.shape, endpoint=True), row.dtype)
    return row


def _vary_numbers(row, index, boldness, draw):
    """Scaled; all beyond zero, where a padded zero is the largest; of both signs; or all on their own side of zero."""
    scaled = row * draw.uniform(0.5, 1.5)
    if boldness == KEPT:
        return scaled
    finite = row[np.isfinite(row)]
    largest = np.abs(finite).max(initial=0) or 1.0
    side = -1.0 if finite.sum() < 0 else 1.0
    kind, noise = index // 2 % 4, largest * draw.normal(size=row.shape)
    if kind == 2:
        return noise - scaled
    if kind:
        return scaled + 0.2 * noise + (-3 if kind == 1 else 3) * side * largest
    return scaled if row.any() else noise


def _vary_text(row, index, boldness, draw):
    """Words in another order; or longer; or of other letters."""
    if row.ndim:
        row = draw.permutation(row)
        if boldness != KEPT and index // 2 % 3:
            for place in np.ndindex(row.shape):
                row[place] += _letters(draw) if draw.random() < 0.5 else b""
        return row
    words, kind = row.item().split(), index // 2 % 3
    text = b" ".join(words[place] for place in draw.permutation(len(words)))
    if boldness != KEPT and kind:
        text = text + b" " + _letters(draw) if kind == 1 else _letters(draw) + text
    row[()] = text
    return row


def _letters(draw):
    return "".join(draw.choice(list(_LETTERS), draw.integers(3, 33))).encode()
