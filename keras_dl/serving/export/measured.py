"""Tests an export in a clean process: compares its answers with the model's, and measures how it may be batched."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from keras_dl.errors import UserError
from keras_dl.serving.export.clean import CleanProcess, ModelFailed
from keras_dl.serving.export.manifest import describe
from keras_dl.serving.export.padding import Batching, measure, same
from keras_dl.serving.export.rows import Arrays, has_rows, open_axes, ragged

_SEVERAL = 4
_NO_ROWS = "a request without rows"
# A graph is optimized before it runs, which changes the rounding: tolerances relative to a value and to the largest.
_RELATIVE, _OF_LARGEST = 1e-3, 1e-4


@dataclass(frozen=True)
class Measured:
    """The measurements of a signature.

    Attributes:
        batching: how its requests may be batched.
        answered: requests that it answered, for the warm-up.
        refused: descriptions of the requests that it did not answer.
        open_axes: True if an input may have different lengths.
    """

    batching: Batching
    answered: tuple[Arrays, ...] = ()
    refused: tuple[str, ...] = ()
    open_axes: bool = False

    def note(self) -> str | None:
        """Returns what prevents batching, with advice, or None."""
        if not self.answered:
            return None
        if not self.batching.rows_independent:
            return f"requests are not batched: {self.batching.why}"
        if self.open_axes and not self.batching.padded_axes:
            note = f"requests of different lengths are not batched: {self.batching.why}"
            if self.batching.why.startswith("not known"):
                return note
            return f"{note}. Mask the raw input (keras.layers.Masking as the first layer), or add a length as an input"
        return None


def check_answers(process: CleanProcess, expected: list[tuple[Arrays, Arrays]]) -> None:
    """Compares the answers of the loaded export with those of the model; UserError if one differs.

    The export may reject a request without rows, as Keras' recurrent layers do.
    """
    for request, answers in expected:
        try:
            got = process.answer("serving_default", request)
        except ModelFailed as error:
            if process.is_running() and not all(array.size for array in request.values()):
                continue
            rows = {name: list(array.shape) for name, array in request.items()}
            raise UserError(f"the export fails on a request that the model answers, {rows}: {error}") from error
        if got.keys() != answers.keys():
            raise UserError(
                f"the answers of the export differ from the model's: its outputs are {', '.join(sorted(got))}, "
                f"expected {', '.join(sorted(answers))}"
            )
        for name, before in answers.items():
            if difference := difference_of(before, got[name]):
                raise UserError(f"the answers of the export differ from the model's: {name} {difference}")


def difference_of(before: np.ndarray, after: np.ndarray) -> str | None:
    """Describes the largest difference between two answers, or returns None if they are equal except for rounding."""
    before, after = np.asarray(before), np.asarray(after)
    if same(before, after, _RELATIVE, _OF_LARGEST):
        return None
    if before.shape != after.shape:
        return f"has the shape {list(after.shape)}, expected {list(before.shape)}"
    numbers = before.dtype.kind in "fc" and after.dtype.kind in "fc"
    wrong = before != after
    if numbers:
        wrong &= ~(np.isnan(before) & np.isnan(after))
        with np.errstate(invalid="ignore"):
            distance = np.nan_to_num(np.abs(after - before), nan=np.inf)
    at = np.unravel_index(np.argmax(np.where(wrong, distance, 0) if numbers else wrong), wrong.shape)
    got, expected = (f"{each[at]:.6g}" if numbers else str(each[at])[:60] for each in (after, before))
    differing = f"{np.count_nonzero(wrong)} of {wrong.size} values differ"
    return f"is {got} instead of {expected} at the largest difference; {differing}"


def measure_signatures(
    process: CleanProcess, signatures: Mapping[str, meta_graph_pb2.SignatureDef], request: Arrays
) -> dict[str, Measured]:
    """Measures every signature of the loaded SavedModel whose inputs match the example request; `{}` matches none."""
    found, proven = {}, {}
    for name in sorted(signatures, key=lambda name: not _has_fractions(signatures[name])):
        described = {key: describe(info) for key, info in signatures[name].inputs.items()}
        if not request or not _fits(request, described):
            found[name] = Measured(Batching(False, why="not measured: the example request does not match its inputs"))
            continue
        shapes = {key: each["shape"] for key, each in described.items()}
        found[name] = _measure(process, name, shapes, request, proven)
        for key, axes in found[name].batching.padded_axes.items():  # also valid for signatures that return labels
            proven[key] = sorted({*proven.get(key, ()), *axes})
    return {name: found[name] for name in signatures}


def _has_fractions(signature):
    return any(info.dtype and tf.as_dtype(info.dtype).is_floating for info in signature.outputs.values())


def _measure(process, name, shapes, request, proven):
    def answer(inputs):
        return process.answer(name, inputs)

    requests = {"the example request": request}
    if has_rows(shapes):
        requests[f"{_SEVERAL} rows"] = {key: np.concatenate([array[:1]] * _SEVERAL) for key, array in request.items()}
        requests["rows of different lengths"] = ragged(request, shapes)
        requests[_NO_ROWS] = {key: array[:0] for key, array in request.items()}
    answered, refused = {}, {}
    for what, inputs in requests.items():
        try:
            answer(inputs)
            answered[what] = inputs
        except ModelFailed as error:
            refused[what] = f"{what}: {error}"
    answered.pop(_NO_ROWS, None)  # useless for a warm-up
    if refused.keys() - {_NO_ROWS}:
        batching = Batching(False, why=f"it does not answer {next(iter(refused.values()))}")
    else:
        try:
            batching = measure(answer, shapes, request, proven)
        except ModelFailed as error:
            batching = Batching(False, why=f"it does not answer every row: {error}")
    return Measured(batching, tuple(answered.values()), tuple(refused.values()), bool(open_axes(shapes)))


def _fits(request, described):
    if request.keys() != described.keys():
        return False
    for name, array in request.items():
        dtype, shape = described[name]["dtype"], described[name]["shape"]
        if dtype != ("string" if array.dtype == object else array.dtype.name):
            return False
        if shape is not None and len(shape) != array.ndim:
            return False
        if shape is not None and any(size not in (None, given) for size, given in zip(shape, array.shape, strict=True)):
            return False
    return True
