"""Rows of requests: selecting, padding, repeating and cropping them, and varying those of an example.

The variations detect answers that depend on other rows or on padding. The example alone proves little: a padded zero is
never the maximum of positive values, and in a batch of one class, a class taken from another row goes unnoticed. So the
variations go beyond the values of the example. A model may reject some of them, which proves nothing; then milder
variations are tried.
"""

from collections.abc import Callable, Mapping

import numpy as np

from keras_dl.serving.export.clean import ModelFailed

Arrays = dict[str, np.ndarray]
# Shapes of a signature's inputs: None for an unknown size or an unknown rank.
Shapes = Mapping[str, tuple[int | None, ...] | None]
# Enough rows to go beyond special cases of small batches, few enough for long examples to take only seconds.
_MOST_ROWS, _MOST_ELEMENTS = 16, 1_600_000
_LETTERS = "abcdefghijklmnopqrstuvwxyz 0123456789"
KEPT = -1


def open_axes(shapes: Shapes) -> list[tuple[str, int]]:
    """Returns the axes of unknown size except the batch axis, as `(input, axis)`."""
    return [
        (name, axis)
        for name, shape in sorted(shapes.items())
        for axis in range(1, len(shape or ()))
        if shape[axis] is None
    ]


def has_rows(shapes: Shapes) -> bool:
    """Returns True if the first axis of every input has an unknown size, and so is a batch axis."""
    return bool(shapes) and all(shape and shape[0] is None for shape in shapes.values())


def ragged(request: Arrays, shapes: Shapes) -> Arrays:
    """Returns three rows made of the first: all of it, two thirds and a tenth of it, padded with zeros."""
    shares = (1.0, 0.67, 0.1)
    return {
        name: np.stack([cut(content(array, 0), shapes[name], share) for share in shares])
        for name, array in request.items()
    }


def row_of(arrays: Arrays, index: int) -> Arrays:
    """Returns a batch of one row."""
    return {name: array[index : index + 1] for name, array in arrays.items()}


def padded_with_zeros(array: np.ndarray, axis: int, count: int) -> np.ndarray:
    """Appends `count` zeros, or empty strings, along an axis."""
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, count)
    return np.pad(array, widths, constant_values=_zero(array))


def repeated(array: np.ndarray, axis: int, count: int) -> np.ndarray:
    """Appends the first `count` values along an axis, repeating them as needed."""
    size = array.shape[axis]
    return np.take(array, np.arange(size + count) % size, axis) if size else padded_with_zeros(array, axis, count)


def cropped_by(array: np.ndarray, axis: int, count: int) -> np.ndarray:
    """Removes the last `count` values of an axis."""
    return np.take(array, np.arange(array.shape[axis] - count), axis)


def content(array: np.ndarray, index: int) -> np.ndarray:
    """Returns a copy of a row without its batch axis; a string stays an array of dtype object."""
    return array[index : index + 1].reshape(array.shape[1:]).copy()


def cut(row: np.ndarray, shape: tuple[int | None, ...], share: float) -> np.ndarray:
    """Replaces the last part of each axis of unknown size with zeros, in place; shortens a string."""
    for axis in range(row.ndim):
        if shape[axis + 1] is None:
            tail = [slice(None)] * row.ndim
            tail[axis] = slice(max(1, round(row.shape[axis] * share)), None)
            row[tuple(tail)] = _zero(row)
    if not row.ndim and row.dtype == object and share < 1:
        text = row.item().decode(errors="ignore")
        row[()] = text[: max(1, round(len(text) * share))].encode()
    return row


def _zero(array):
    return b"" if array.dtype == object else 0


def answered_rows(answer: Callable[[Arrays], Arrays], shapes: Shapes, request: Arrays) -> tuple[Arrays, Arrays]:
    """Returns the strongest variations of an example that the model accepts, and its answer to them.

    `answer` runs a signature, or raises `ModelFailed`, as this function does if the model rejects even the example's
    values in a different order. The example has at least one row; strings are object arrays of bytes.
    """
    strongest = dict.fromkeys(request, 0)
    try:
        rows = varied(request, shapes, strongest)
        return rows, answer(rows)
    except ModelFailed:
        pass
    # An integer may be a length or a class with a limited range, so inputs are varied one at a time.
    chosen = dict.fromkeys(request, KEPT)
    rows = varied(request, shapes, chosen)
    together = answer(rows)
    for name, array in request.items():
        for level in range(_levels(array)):
            stronger = varied(request, shapes, chosen | {name: level})
            try:
                together = answer(stronger)
            except ModelFailed:
                continue
            rows, chosen[name] = stronger, level
            break
    return rows, together


def varied(request: Arrays, shapes: Shapes, levels: dict[str, int]) -> Arrays:
    """Returns rows of an example's shape with different content; every second row has trailing zeros.

    `levels` are 0 for any content, higher for integers of smaller ranges, `KEPT` for the example's values in a
    different order. There are 3 to 16 rows, starting with those of the example; they are deterministic.
    """
    draw = np.random.default_rng(0)
    size = max(array.size // len(array) for array in request.values())
    rows = {name: [] for name in request}
    for index in range(int(np.clip(_MOST_ELEMENTS // max(size, 1), 3, _MOST_ROWS))):
        share = 1.0 if index % 2 == 0 else draw.uniform(0.3, 0.9)
        for name, array in request.items():
            row = content(array, index % len(array))
            if index >= len(array):
                row = _vary(row, index, levels[name], draw)
            rows[name].append(cut(row, shapes[name], share))
    return {name: np.stack(each) for name, each in rows.items()}


def _levels(array):
    """Returns the number of levels of variation of an input."""
    return max(1, len(_ranges(array))) if array.dtype.kind in "iu" else 1


def _ranges(array):
    """Returns ranges to draw integers from, widest first; lengths may exclude 0, and classes have an upper limit."""
    low, high, limits = int(array.min(initial=0)), int(array.max(initial=0)), np.iinfo(array.dtype)
    smallest = int(array.min()) if array.size else 0
    found = [(low, high + 3), (min(smallest, 1), high + 3), (low, high), (min(smallest, 1), high), (smallest, high + 1)]
    return [(first, last) for first, last in found if first < last <= limits.max]


def _vary(row, index, level, draw):
    if row.dtype == object:
        return _vary_strings(row, index, level, draw)
    if row.ndim:
        row = draw.permutation(row)  # keeps the values valid: tokens, pixels, samples
    if row.dtype.kind == "f":
        return _vary_floats(row, index, level, draw).astype(row.dtype)
    if level == KEPT:
        return row
    if row.dtype.kind == "b":
        return np.asarray(draw.integers(0, 2, row.shape) if index % 2 else ~row, bool)
    if row.dtype.kind in "iu" and (ranges := _ranges(row)):
        low, high = ranges[min(level, len(ranges) - 1)]
        return np.asarray(draw.integers(low, high, row.shape, endpoint=True), row.dtype)
    return row


def _vary_floats(row, index, level, draw):
    """Scales values, shifts them to either side of zero (where a padded zero is an extreme value), or mixes signs."""
    scaled = row * draw.uniform(0.5, 1.5)
    if level == KEPT:
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


def _vary_strings(row, index, level, draw):
    """Reorders words, lengthens strings, or replaces their letters."""
    if row.ndim:
        row = draw.permutation(row)
        if level != KEPT and index // 2 % 3:
            for place in np.ndindex(row.shape):
                row[place] += _letters(draw) if draw.random() < 0.5 else b""
        return row
    words, kind = row.item().split(), index // 2 % 3
    text = b" ".join(words[place] for place in draw.permutation(len(words)))
    if level != KEPT and kind:
        text = text + b" " + _letters(draw) if kind == 1 else _letters(draw) + text
    row[()] = text
    return row


def _letters(draw):
    return "".join(draw.choice(list(_LETTERS), draw.integers(3, 33))).encode()
