"""An export tried in a clean process: whether it answers as the model does, and what may be run together."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from keras_dl.errors import UserError
from keras_dl.serving.export.clean import CleanProcess, ModelFailed
from keras_dl.serving.export.differing import differing
from keras_dl.serving.export.manifest import describe
from keras_dl.serving.export.padding import Batching, measure
from keras_dl.serving.export.rows import Arrays, has_rows, open_axes, ragged

_FEW = 4
_NO_ROWS = "a request without rows"


@dataclass(frozen=True)
class Measured:
    """What was seen of a signature.

    Attributes:
        batching: how its requests may be run together.
        answered: requests that it answered, to warm it up with.
        refused: other requests that it did not answer, in words.
        open_axes: whether an input may have different lengths.
    """

    batching: Batching
    answered: tuple[Arrays, ...] = ()
    refused: tuple[str, ...] = ()
    open_axes: bool = False

    def note(self) -> str | None:
        """What a user could mend, in words, or None."""
        if not self.answered:
            return None
        if not self.batching.rows_independent:
            return f"requests are not run together: {self.batching.why}"
        if self.open_axes and not self.batching.padded_axes:
            told = f"requests of different lengths are not run together: {self.batching.why}"
            if self.batching.why.startswith("not known"):
                return told
            return (
                f"{told}. To change that, mask the raw input (keras.layers.Masking as the first layer), or take a "
                "length as a further input"
            )
        return None


def check_answers(process: CleanProcess, expected: list[tuple[Arrays, Arrays]]) -> None:
    """Compares what the loaded export answers with what the model did.

    A graph that refuses a request without rows, as recurrent layers of Keras do, is no fault: nobody needs its answer.

    Raises:
        UserError: if it answers otherwise, or not at all.
    """
    for request, answers in expected:
        try:
            got = process.answer("serving_default", request)
        except ModelFailed as error:
            if process.is_running() and not all(array.size for array in request.values()):
                continue
            rows = {name: list(array.shape) for name, array in request.items()}
            raise UserError(f"the export cannot answer what the model answers, {rows}: {error}") from error
        if got.keys() != answers.keys():
            raise UserError(
                f"the export answers otherwise than the model: its outputs are {', '.join(sorted(got))}, "
                f"expected {', '.join(sorted(answers))}"
            )
        for name, before in answers.items():
            if difference := differing(before, got[name]):
                raise UserError(f"the export answers otherwise than the model: {name} {difference}")


def measure_signatures(
    process: CleanProcess, signatures: Mapping[str, meta_graph_pb2.SignatureDef], request: Arrays
) -> dict[str, Measured]:
    """Measures every signature of the loaded SavedModel that the example request fits.

    Args:
        process: which has loaded it.
        signatures: of its graph.
        request: an example for `serving_default`; `{}` fits none.
    """
    found, shown = {}, {}
    for name in sorted(signatures, key=lambda name: not _has_fractions(signatures[name])):
        described = {key: describe(info) for key, info in signatures[name].inputs.items()}
        if not request or not _fits(request, described):
            found[name] = Measured(Batching(False, why="not measured: the example request is of other inputs"))
            continue
        shapes = {key: each["shape"] for key, each in described.items()}
        found[name] = _measure(process, name, shapes, request, shown)
        for key, axes in found[name].batching.padded_axes.items():  # the labels of the same inputs stand on these
            shown[key] = sorted({*shown.get(key, ()), *axes})
    return {name: found[name] for name in signatures}


def _has_fractions(signature):
    return any(info.dtype and tf.as_dtype(info.dtype).is_floating for info in signature.outputs.values())


def _measure(process, name, shapes, request, shown):
    def answer(inputs):
        return process.answer(name, inputs)

    asked = {"the example request": request}
    if has_rows(shapes):
        asked[f"{_FEW} rows"] = {key: np.concatenate([array[:1]] * _FEW) for key, array in request.items()}
        asked["rows of different lengths"] = ragged(request, shapes)
        asked[_NO_ROWS] = {key: array[:0] for key, array in request.items()}
    answered, refused = {}, {}
    for what, inputs in asked.items():
        try:
            answer(inputs)
            answered[what] = inputs
        except ModelFailed as error:
            refused[what] = f"{what}: {error}"
    answered.pop(_NO_ROWS, None)  # nothing is warmed up by it
    if refused.keys() - {_NO_ROWS}:
        batching = Batching(False, why=f"it does not answer {next(iter(refused.values()))}")
    else:
        try:
            batching = measure(answer, shapes, request, shown)
        except ModelFailed as error:
            batching = Batching(False, why=f"not every row is answered: {error}")
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
