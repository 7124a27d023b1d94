"""Rows of a request, made of an example: of other content, of other lengths, padded."""

from collections.abc import Mapping

import numpy as np

Arrays = dict[str, np.ndarray]
# Of a signature's inputs: None for a length that may be any, and for a rank that may be any.
Shapes = Mapping[str, tuple[int | None, ...] | None]


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
        name: np.stack([cut(content(array, 0), shapes[name], share) for share in shares])
        for name, array in request.items()
    }


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


def content(array: np.ndarray, index: int) -> np.ndarray:
    """A copy of a row without its axis of rows; a text stays an array of dtype object."""
    return array[index : index + 1].reshape(array.shape[1:]).copy()


def cut(row: np.ndarray, shape: tuple[int | None, ...], share: float) -> np.ndarray:
    """A row, changed in place, with zeros in the last part of each open axis; a text cut to its first part."""
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
