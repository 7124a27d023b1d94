"""Rows of a request, made of an example: of other content, of other lengths, padded."""

from collections.abc import Mapping

import numpy as np

Arrays = dict[str, np.ndarray]
# Of a signature's inputs: None for a length that may be any, and for a rank that may be any.
Shapes = Mapping[str, tuple[int | None, ...] | None]

_MOST_ROWS, _MOST_ELEMENTS = 8, 400_000


def open_axes(shapes: Shapes) -> list[tuple[str, int]]:
    """The axes of the inputs, but for the batch's, that may have any length, as `(input, axis)`."""
    return [
        (name, axis)
        for name, shape in sorted(shapes.items())
        for axis in range(1, len(shape or ()))
        if shape[axis] is None
    ]


def has_rows(shapes: Shapes) -> bool:
    """Whether every input has a first axis of any length: then it is that of the batch."""
    return bool(shapes) and all(shape and shape[0] is None for shape in shapes.values())


def ragged(request: Arrays, shapes: Shapes) -> Arrays:
    """Three rows of an example's first, padded to one length with zeros: all of it, two thirds, a tenth."""
    shares = (1.0, 0.67, 0.1)
    return {
        name: np.stack([_cut(_content(array, 0), shapes[name], share) for share in shares])
        for name, array in request.items()
    }


def varied(request: Arrays, shapes: Shapes, whole_numbers: bool) -> Arrays:
    """Rows of an example's shape and of other content: permuted, scaled, half of them with zeros behind.

    Args:
        request: an example; strings as object arrays of bytes.
        shapes: of its inputs.
        whole_numbers: whether an input of one whole number a row gets others, from 0 to its own.

    Returns:
        The example's own rows and more, 3 to 8; the same ones each time.
    """
    draw = np.random.default_rng(0)
    size = max(array.size // len(array) for array in request.values())
    rows = {name: [] for name in request}
    for index in range(int(np.clip(_MOST_ELEMENTS // max(size, 1), 3, _MOST_ROWS))):
        share = 1.0 if index % 2 == 0 else draw.uniform(0.3, 0.9)
        for name, array in request.items():
            row = _content(array, index % len(array))
            if index >= len(array):
                row = _vary(row, draw, whole_numbers)
            rows[name].append(_cut(row, shapes[name], share))
    return {name: np.stack(each) for name, each in rows.items()}


def row_of(arrays: Arrays, index: int) -> Arrays:
    """One row, as a batch."""
    return {name: array[index : index + 1] for name, array in arrays.items()}


def padded_with_zeros(array: np.ndarray, axis: int, count: int) -> np.ndarray:
    """The array with `count` zeros, or empty texts, behind an axis."""
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, count)
    return np.pad(array, widths, constant_values=_zero(array))


def repeated(array: np.ndarray, axis: int, count: int) -> np.ndarray:
    """The array with `count` of its own first values behind an axis: longer, but not by padding."""
    size = array.shape[axis]
    return np.take(array, np.arange(size + count) % size, axis) if size else padded_with_zeros(array, axis, count)


def cropped_by(array: np.ndarray, axis: int, count: int) -> np.ndarray:
    """The array without the last `count` values of an axis."""
    return np.take(array, np.arange(array.shape[axis] - count), axis)


def _content(array, index):
    """A row without its axis of rows; a text stays an array of dtype object."""
    return array[index : index + 1].reshape(array.shape[1:]).copy()


def _cut(row, shape, share):
    """A row with zeros in the last part of each open axis; a text cut to its first part."""
    for axis in range(row.ndim):
        if shape[axis + 1] is None:
            behind = [slice(None)] * row.ndim
            behind[axis] = slice(max(1, round(row.shape[axis] * share)), None)
            row[tuple(behind)] = _zero(row)
    if not row.ndim and row.dtype == object and share < 1:
        text = row.item().decode(errors="ignore")
        row[()] = text[: max(1, round(len(text) * share))].encode()
    return row


def _zero(array):
    return b"" if array.dtype == object else 0


def _vary(row, draw, whole_numbers):
    if row.dtype == object:
        if not row.ndim:
            words = row.item().split()
            row[()] = b" ".join(words[place] for place in draw.permutation(len(words)))
            return row
        return draw.permutation(row)
    if row.ndim:
        row = draw.permutation(row)  # what stands in it stays allowed: tokens, pixels, samples
    if row.dtype.kind == "f":
        return (row * draw.uniform(0.5, 1.5)).astype(row.dtype)
    if row.dtype.kind in "iu" and not row.ndim and whole_numbers:
        return np.asarray(draw.integers(0, max(int(row), 0) + 1), row.dtype)
    return row
