"""Which requests may share a run, how their arrays are joined, and how the outputs are taken apart again.

A request shares a run only where that changes none of its answers: the export measured it, and the manifest says so
(``rows_independent``, ``padded_axes``, ``cropped_axes``; see `keras_dl.serving.export.manifest`).
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Sharing:
    """How requests to one signature share a run.

    Attributes:
        padded_axes: for an input the axes along which zeros behind the data change no output.
        cropped_axes: for an output the axis along which such zeros lengthen it by as much.
        ranks: of the inputs, where the signature says them.
    """

    padded_axes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    cropped_axes: Mapping[str, int] = field(default_factory=dict)
    ranks: Mapping[str, int] = field(default_factory=dict)

    def key(self, inputs: Arrays) -> Hashable | None:
        """What is equal for requests that may share a run; None for one that must run alone.

        Alone are requests of no rows, of different numbers of rows, of another rank than the signature's, or with an
        empty axis: what the graph says to those must not depend on the company.
        """
        for name, array in inputs.items():
            rank, deepest = array.ndim, max(self.padded_axes.get(name, ()), default=-1)
            if rank <= deepest or rank != self.ranks.get(name, rank):
                return None
        counts = {array.shape[:1] for array in inputs.values()}
        if len(counts) != 1 or () in counts or any(array.size == 0 for array in inputs.values()):
            return None
        # Were two axes padded by different amounts, nobody could say how much of an output is to be cut off.
        pads = len(set(self._lengths(inputs))) == 1
        return tuple((name, inputs[name].dtype.char, self._shape(name, inputs[name], pads)) for name in sorted(inputs))

    def length(self, inputs: Arrays) -> int:
        """What differs between requests of one `key`: the length along the axes that may be padded, 0 without any."""
        return max(self._lengths(inputs), default=0)

    def join(self, requests: Sequence[Arrays], size: int) -> dict[str, np.ndarray]:
        """The inputs of all requests behind each other, padded with zeros to the longest of them.

        Args:
            requests: of equal `key`.
            size: rows of the result; what the requests lack of it is filled with copies of the first row.
        """
        return {name: _join([request[name] for request in requests], size) for name in requests[0]}

    def split(self, outputs: Arrays, requests: Sequence[Arrays], size: int) -> list[dict[str, np.ndarray]]:
        """Each request's own outputs, of its own length.

        Args:
            outputs: of a run of `join(requests, size)`.
            requests: the same.
            size: the same.

        Raises:
            ValueError: an output has not as many rows as the inputs had.
        """
        rows = [next(iter(request.values())).shape[0] for request in requests]
        lengths = [self.length(request) for request in requests]
        longest, start, answers = max(lengths), 0, []
        if any(array.shape[:1] != (size,) for array in outputs.values()):
            raise ValueError("an output has not as many rows as the inputs")
        for count, length in zip(rows, lengths, strict=True):
            own = {name: array[start : start + count] for name, array in outputs.items()}
            if padding := longest - length:
                for name, axis in self.cropped_axes.items():
                    kept = (slice(None),) * axis + (slice(own[name].shape[axis] - padding),)
                    own[name] = np.ascontiguousarray(own[name][kept])
            answers.append(own)
            start += count
        return answers

    def _lengths(self, inputs: Arrays) -> list[int]:
        return [inputs[name].shape[axis] for name, axes in self.padded_axes.items() for axis in axes]

    def _shape(self, name: str, array: np.ndarray, pads: bool) -> tuple[int, ...]:
        axes = self.padded_axes.get(name, ()) if pads else ()
        return tuple(0 if axis in axes else size for axis, size in enumerate(array.shape[1:], start=1))


def sharing(model, signature_name: str, every_signature: bool) -> Sharing | None:
    """How requests to a signature share a run, or None where each must run alone.

    Args:
        model: `LoadedModel`.
        signature_name: of that model.
        every_signature: as in `Batching`.
    """
    signature = model.signatures[signature_name]
    shapes = {name: info.tensor_shape for name, info in signature.inputs.items()}
    ranks = {name: len(shape.dim) for name, shape in shapes.items() if not shape.unknown_rank}
    recorded = model.manifest.get("signatures", {}).get(signature_name, {}).get("batching", {})
    if recorded.get("rows_independent"):
        dtypes = model.input_dtypes[signature_name]
        axes = recorded.get("padded_axes", {})
        padded = {name: axes[name] for name in dtypes if axes.get(name)}
        if any(dtypes[name] == "string" for name in padded):  # nothing is zero there
            return Sharing(ranks=ranks)
        return Sharing(padded, recorded.get("cropped_axes", {}), ranks)
    infos = [*signature.inputs.values(), *signature.outputs.values()]
    if every_signature and all(info.tensor_shape.dim and info.tensor_shape.dim[0].size == -1 for info in infos):
        return Sharing(ranks=ranks)
    return None


def _join(arrays: Sequence[np.ndarray], size: int) -> np.ndarray:
    shapes = {array.shape[1:] for array in arrays}
    rows = sum(array.shape[0] for array in arrays)
    if len(shapes) == 1:
        fill = [arrays[0][:1]] * (size - rows)
        return np.concatenate([*arrays, *fill]) if len(arrays) + len(fill) > 1 else arrays[0]
    joined = np.zeros((size, *np.max(list(shapes), axis=0)), arrays[0].dtype)
    start = 0
    for array in arrays:
        joined[(slice(start, start + array.shape[0]), *map(slice, array.shape[1:]))] = array
        start += array.shape[0]
    joined[rows:] = joined[:1]
    return joined
