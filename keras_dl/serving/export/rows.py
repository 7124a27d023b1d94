"""Functions on the rows of requests: selecting, padding, repeating, cropping."""

from collections.abc import Mapping

import numpy as np

Arrays = dict[str, np.ndarray]
# Shapes of a signature's inputs: None for an unknown size or an unknown rank.
Shapes = Mapping[str, tuple[int | None, ...] | None]


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
