"""How requests to a signature may be run together: measured on what it answers, not taken from a declaration.

Rows go into one batch only if the others change nothing of a row's answer, neither values nor shapes. Requests of
different lengths go into one batch, padded with zeros, only if zeros behind the data change nothing, or lengthen an
output by as much: then the server crops it. Most models with a convolution, a normalization or an unmasked recurrent
layer do not pass, and their padded answers would be silently wrong.

An output that never differs shows nothing, and a label that stays says little of zeros behind the data, for the next
request may lie nearer to the border: padding needs an output of fractions that differs from row to row and stays.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from keras_dl.serving.export.clean import ModelFailed
from keras_dl.serving.export.rows import (
    Arrays,
    Shapes,
    cropped_by,
    has_rows,
    open_axes,
    padded_with_zeros,
    repeated,
    row_of,
)
from keras_dl.serving.export.varied import answered_rows

Answer = Callable[[Arrays], Arrays]

# A sum over a batch or a longer row is rounded otherwise: what may differ, of a value and of the largest one.
_RELATIVE, _OF_LARGEST = 1e-4, 1e-5
_PADS = (1, 7, 32)
_ROWS_ALONE = 8


@dataclass(frozen=True)
class Batching:
    """What was measured of a signature, as the manifest holds it.

    Attributes:
        rows_independent: whether a row is answered alike alone and among others.
        padded_axes: for each input the axes, never 0, behind which zeros may be put.
        cropped_axes: for each output that becomes longer by as much, the axis of it.
        why: what stands against more, in words; "" if nothing.
    """

    rows_independent: bool
    padded_axes: dict[str, list[int]] = field(default_factory=dict)
    cropped_axes: dict[str, int] = field(default_factory=dict)
    why: str = ""


def measure(
    answer: Answer, shapes: Shapes, request: Arrays, shown: Mapping[str, Sequence[int]] | None = None
) -> Batching:
    """Measures what may be run together.

    Args:
        answer: answers a signature's inputs, or raises `ModelFailed`.
        shapes: of the signature's inputs, None for what may have any length.
        request: an example with a row or more.
        shown: `padded_axes` of another signature of the same inputs and model: what its fractions have shown of the
            model need not be shown again. Defaults to None: nothing is.
    """
    if not has_rows(shapes):
        return Batching(False, why="an input has no open axis of rows")
    try:
        rows, together = answered_rows(answer, shapes, request)
    except ModelFailed as error:
        return Batching(False, why=f"rows of other content are refused: {error}")
    count = len(next(iter(rows.values())))
    for name, array in together.items():
        if array.shape[:1] != (count,):
            return Batching(False, why=f"{name} has no axis of rows")
    for index in range(min(count, _ROWS_ALONE)):
        difference = _difference(answer(row_of(rows, index)), row_of(together, index))
        if difference:
            return Batching(False, why=f"{difference} when other rows are in the batch")
    if not any(_differs(array) for array in together.values()):
        return Batching(False, why="not known whether rows depend on each other: all of them were answered alike")
    rows, together = ({name: array[:_ROWS_ALONE] for name, array in each.items()} for each in (rows, together))
    padded, cropped, reasons = {}, {}, []
    for name, axis in open_axes(shapes):
        found = _padded_alone(answer, rows, together, name, axis)
        if isinstance(found, str):
            reasons.append(found)
        elif axis not in (shown or {}).get(name, ()) and not _seen(answer, rows, together, name):
            reasons.append(
                f"not known what zeros behind axis {axis} of {name} change: no output of fractions differs with it, "
                "as a score beside a label would"
            )
        elif any(cropped.get(output, each) != each for output, each in found.items()):
            reasons.append(f"zeros behind axis {axis} of {name} lengthen another axis of an output than other zeros")
        else:
            padded.setdefault(name, []).append(axis)
            cropped |= found
    if padded and (reason := _different_lengths(answer, rows, padded, cropped)):
        padded, cropped, reasons = {}, {}, [*reasons, reason]
    return Batching(True, padded, cropped, "; ".join(reasons))


def same(before: np.ndarray, after: np.ndarray, relative: float, of_largest: float) -> bool:
    """Whether two arrays are equal: numbers but for rounding, anything else exactly."""
    before, after = np.asarray(before), np.asarray(after)
    if before.shape != after.shape:
        return False
    if before.dtype.kind not in "fc":
        return np.array_equal(before, after)
    finite = np.abs(before[np.isfinite(before)])
    return np.allclose(before, after, relative, of_largest * finite.max(initial=0.0), equal_nan=True)


def _seen(answer, rows, together, name):
    """Whether some fractions among the outputs differ with the content of one input."""
    if len(rows) > 1:
        others = {each: np.concatenate([array[:1]] * len(array)) for each, array in rows.items()}
        try:
            together = answer({**others, name: rows[name]})
        except ModelFailed:
            return False
    fractions = (array for array in together.values() if array.dtype.kind == "f" and (array != np.trunc(array)).any())
    return any(_differs(array) for array in fractions)


def _differs(array):
    """Whether two rows are different, those left out that hold no number."""
    if array.dtype.kind in "fc":
        array = array[np.isfinite(array).reshape(len(array), -1).all(1)]
    return any(not same(array[0], row, _RELATIVE, _OF_LARGEST) for row in array[1:])


def _padded_alone(answer, rows, expected, name, axis):
    """The outputs that zeros behind one axis lengthen, with their axis; or why there must be none, in words."""
    cropped = {}
    for pad in _PADS:
        try:
            got = answer({**rows, name: padded_with_zeros(rows[name], axis, pad)})
        except ModelFailed as error:
            return f"zeros behind axis {axis} of {name} are refused: {error}"
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
                    return f"{pad} zeros behind axis {axis} of {name} change the shape of {output} {shapes}"
                cropped[output] = longer[0]
                after = cropped_by(after, longer[0], pad)
            if not same(before, after, _RELATIVE, _OF_LARGEST):
                return f"zeros behind axis {axis} of {name} change {output}{_by(before, after)}"
    return cropped


def _different_lengths(answer, rows, padded, cropped):
    """Rows of different lengths, padded to one, against each alone: the difference in words, or None."""
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
            return f"a row of {extra} more is refused: {error}"
        lengthened.append(longer)
        pads.append(11 - extra)
    together = answer({name: np.concatenate([row[name] for row in lengthened]) for name in rows})
    for index, pad in enumerate(pads):
        row = row_of(together, index)
        row |= {name: cropped_by(row[name], axis, pad) for name, axis in cropped.items()}
        if difference := _difference(alone[index], row):
            return f"{difference} when rows of different lengths are padded to one"
    return None


def _difference(before, after):
    for name, array in before.items():
        if array.shape != after[name].shape:
            return f"{name} has shape {list(after[name].shape)} instead of {list(array.shape)}"
        if not same(array, after[name], _RELATIVE, _OF_LARGEST):
            return f"{name} is different{_by(array, after[name])}"
    return None


def _by(before, after):
    if before.shape != after.shape or before.dtype.kind not in "iuf":
        return ""
    return f" by up to {np.nanmax(np.abs(np.asarray(after, float) - before)):.3g}"
