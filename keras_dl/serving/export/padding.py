"""Measures from a signature's answers how its requests may be batched, instead of relying on a declaration.

Rows are batched only if the other rows of a batch change neither values nor shapes of a row's answer. Requests of
different lengths are padded with zeros and batched only if trailing zeros change nothing, or lengthen an output by the
same number of steps, which the server then removes. Most models with a convolution, a normalization or an unmasked
recurrent layer fail this test; their padded answers would be silently wrong.

A constant output proves nothing. An unchanged label proves little about trailing zeros, because another request may be
closer to the decision boundary: padding requires a fractional output that differs between rows and stays unchanged.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from keras_dl.serving.export.clean import ModelFailed
from keras_dl.serving.export.rows import (
    Arrays,
    Shapes,
    answered_rows,
    cropped_by,
    has_rows,
    open_axes,
    padded_with_zeros,
    repeated,
    row_of,
)

Answer = Callable[[Arrays], Arrays]

# Batching and padding change the rounding of sums: tolerances relative to a value and to the largest value.
_RELATIVE, _OF_LARGEST = 1e-4, 1e-5
_PADS = (1, 7, 32)
_ROWS_ALONE = 8


@dataclass(frozen=True)
class Batching:
    """How the requests of a signature may be batched, as stored in the manifest.

    Attributes:
        rows_independent: True if the answer for a row does not depend on the other rows.
        padded_axes: for each input the axes, never 0, that may be padded with trailing zeros.
        cropped_axes: for each output that padding lengthens, its axis to crop.
        why: the reason for the restrictions, or "".
    """

    rows_independent: bool
    padded_axes: dict[str, list[int]] = field(default_factory=dict)
    cropped_axes: dict[str, int] = field(default_factory=dict)
    why: str = ""


def measure(
    answer: Answer, shapes: Shapes, request: Arrays, proven: Mapping[str, Sequence[int]] | None = None
) -> Batching:
    """Measures how the requests of a signature may be batched.

    Args:
        answer: function that runs the signature, or raises `ModelFailed`.
        shapes: shapes of the signature's inputs; None for an unknown size.
        request: example with at least one row.
        proven: `padded_axes` of another signature with the same inputs and model. On these axes, no fractional output
            is required. Defaults to None: no axes.
    """
    if not has_rows(shapes):
        return Batching(False, why="an input has no batch axis of unknown size")
    try:
        rows, together = answered_rows(answer, shapes, request)
    except ModelFailed as error:
        return Batching(False, why=f"it rejects rows with different content: {error}")
    count = len(next(iter(rows.values())))
    for name, array in together.items():
        if array.shape[:1] != (count,):
            return Batching(False, why=f"{name} has no batch axis")
    for index in range(min(count, _ROWS_ALONE)):
        difference = _difference(answer(row_of(rows, index)), row_of(together, index))
        if difference:
            return Batching(False, why=f"{difference} with other rows in the batch")
    if not any(_differs(array) for array in together.values()):
        return Batching(False, why="not known whether rows depend on each other: all answers are equal")
    rows, together = ({name: array[:_ROWS_ALONE] for name, array in each.items()} for each in (rows, together))
    padded, cropped, reasons = {}, {}, []
    for name, axis in open_axes(shapes):
        found = _padded_alone(answer, rows, together, name, axis)
        if isinstance(found, str):
            reasons.append(found)
        elif axis not in (proven or {}).get(name, ()) and not _is_sensitive(answer, rows, together, name):
            reasons.append(
                f"not known whether trailing zeros on axis {axis} of {name} change an answer: no fractional output, "
                "such as a score, depends on it"
            )
        elif any(cropped.get(output, each) != each for output, each in found.items()):
            reasons.append(f"trailing zeros on axis {axis} of {name} lengthen a different axis of an output")
        else:
            padded.setdefault(name, []).append(axis)
            cropped |= found
    if padded and (reason := _different_lengths(answer, rows, padded, cropped)):
        padded, cropped, reasons = {}, {}, [*reasons, reason]
    return Batching(True, padded, cropped, "; ".join(reasons))


def same(before: np.ndarray, after: np.ndarray, relative: float, of_largest: float) -> bool:
    """Returns True if two arrays are equal; numbers may differ by rounding."""
    before, after = np.asarray(before), np.asarray(after)
    if before.shape != after.shape:
        return False
    if before.dtype.kind not in "fc":
        return np.array_equal(before, after)
    finite = np.abs(before[np.isfinite(before)])
    return np.allclose(before, after, relative, of_largest * finite.max(initial=0.0), equal_nan=True)


def _is_sensitive(answer, rows, together, name):
    """Returns True if a fractional output depends on one input."""
    if len(rows) > 1:
        others = {each: np.concatenate([array[:1]] * len(array)) for each, array in rows.items()}
        try:
            together = answer({**others, name: rows[name]})
        except ModelFailed:
            return False
    fractions = (array for array in together.values() if array.dtype.kind == "f" and (array != np.trunc(array)).any())
    return any(_differs(array) for array in fractions)


def _differs(array):
    """Returns True if two rows differ; rows with NaN or infinity are ignored."""
    if array.dtype.kind in "fc":
        array = array[np.isfinite(array).reshape(len(array), -1).all(1)]
    return any(not same(array[0], row, _RELATIVE, _OF_LARGEST) for row in array[1:])


def _padded_alone(answer, rows, expected, name, axis):
    """Returns the outputs that trailing zeros on an axis lengthen, with their axis, or why padding is not allowed."""
    cropped = {}
    for pad in _PADS:
        try:
            got = answer({**rows, name: padded_with_zeros(rows[name], axis, pad)})
        except ModelFailed as error:
            return f"it rejects trailing zeros on axis {axis} of {name}: {error}"
        for output, before in expected.items():
            after = got[output]
            if after.shape != before.shape:
                longer = [
                    each
                    for each in range(1, before.ndim)
                    if after.shape[each : each + 1] == (before.shape[each] + pad,)
                ]
                if after.ndim != before.ndim or len(longer) != 1 or cropped.get(output, longer[0]) != longer[0]:
                    shapes = f"from {list(before.shape)} to {list(after.shape)}"
                    return f"{pad} trailing zeros on axis {axis} of {name} change the shape of {output} {shapes}"
                cropped[output] = longer[0]
                after = cropped_by(after, longer[0], pad)
            if not same(before, after, _RELATIVE, _OF_LARGEST):
                return f"trailing zeros on axis {axis} of {name} change {output}{_by(before, after)}"
    return cropped


def _different_lengths(answer, rows, padded, cropped):
    """Compares padded rows of different lengths in a batch with each row alone; returns the difference or None."""
    alone, lengthened, pads = [], [], []
    for index, extra in enumerate((0, 5, 11)):
        row = longer = row_of(rows, index)
        for name, axes in padded.items():
            for axis in axes:
                row = {**row, name: repeated(row[name], axis, extra)}
        for name, axes in padded.items():
            longer = {**longer, name: row[name]}
            for axis in axes:
                longer[name] = padded_with_zeros(longer[name], axis, 11 - extra)
        try:
            alone.append(answer(row))
        except ModelFailed as error:
            return f"it rejects a row lengthened by {extra}: {error}"
        lengthened.append(longer)
        pads.append(11 - extra)
    together = answer({name: np.concatenate([row[name] for row in lengthened]) for name in rows})
    for index, pad in enumerate(pads):
        row = row_of(together, index)
        row |= {name: cropped_by(row[name], axis, pad) for name, axis in cropped.items()}
        if difference := _difference(alone[index], row):
            return f"{difference} if rows of different lengths are padded to equal length"
    return None


def _difference(before, after):
    for name, array in before.items():
        if array.shape != after[name].shape:
            return f"{name} has shape {list(after[name].shape)} instead of {list(array.shape)}"
        if not same(array, after[name], _RELATIVE, _OF_LARGEST):
            return f"{name} differs{_by(array, after[name])}"
    return None


def _by(before, after):
    if before.shape != after.shape or before.dtype.kind not in "iuf":
        return ""
    return f" by up to {np.nanmax(np.abs(np.asarray(after, float) - before)):.3g}"
