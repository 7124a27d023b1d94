"""Decides which requests may share a run, joins their arrays, and splits the outputs.

Requests share a run only if that does not change their answers. The export measures this and records it in the manifest
(``rows_independent``, ``padded_axes``, ``cropped_axes``; see `keras_dl.serving.export.manifest`).
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Sharing:
    """Describes how requests to one signature share a run.

    Attributes:
        padded_axes: `{input: axes}`, the axes along which trailing zeros do not change the outputs.
        cropped_axes: `{output: axis}`, the axis along which such padding lengthens the output by the same amount.
        ranks: `{input: rank}`, for inputs of known rank.
    """

    padded_axes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    cropped_axes: Mapping[str, int] = field(default_factory=dict)
    ranks: Mapping[str, int] = field(default_factory=dict)

    def key(self, inputs: Arrays) -> Hashable | None:
        """Returns a key that is equal for requests that may share a run, or None if the request must run alone.

        Requests run alone if they have no rows, inputs with different numbers of rows, a rank other than the
        signature's, or an empty axis: the graph's answer to those must not depend on other requests.
        """
        for name, array in inputs.items():
            rank, deepest = array.ndim, max(self.padded_axes.get(name, ()), default=-1)
            if rank <= deepest or rank != self.ranks.get(name, rank):
                return None
        counts = {array.shape[:1] for array in inputs.values()}
        if len(counts) != 1 or () in counts or any(array.size == 0 for array in inputs.values()):
            return None
        # If two axes were padded by different amounts, the amount to crop from an output would be unknown.
        pads = len(set(self._lengths(inputs))) == 1
        return tuple((name, inputs[name].dtype.char, self._shape(name, inputs[name], pads)) for name in sorted(inputs))

    def length(self, inputs: Arrays) -> int:
        """Returns the length along the padded axes, which may differ between requests of one `key`; 0 without any."""
        return max(self._lengths(inputs), default=0)

    def join(self, requests: Sequence[Arrays], size: int) -> dict[str, np.ndarray]:
        """Concatenates the inputs of all requests, padded with zeros to the longest of them.

        Args:
            requests: requests with the same `key`.
            size: number of rows of the result; missing rows are copies of the first one.
        """
        return {name: _join([request[name] for request in requests], size) for name in requests[0]}

    def split(self, outputs: Arrays, requests: Sequence[Arrays], size: int) -> list[dict[str, np.ndarray]]:
        """Splits outputs into those of each request, cropped to its length.

        Args:
            outputs: the outputs for `join(requests, size)`.
            requests: the requests passed to `join`.
            size: the size passed to `join`.

        Raises:
            ValueError: if the number of rows of an output differs from that of the inputs.
        """
        rows = [next(iter(request.values())).shape[0] for request in requests]
        lengths = [self.length(request) for request in requests]
        longest, start, answers = max(lengths), 0, []
        if any(array.shape[:1] != (size,) for array in outputs.values()):
            raise ValueError("expected as many rows in each output as in the inputs")
        for count, length in zip(rows, lengths, strict=True):
            answer = {name: array[start : start + count] for name, array in outputs.items()}
            if padding := longest - length:
                for name, axis in self.cropped_axes.items():
                    kept = (slice(None),) * axis + (slice(answer[name].shape[axis] - padding),)
                    answer[name] = np.ascontiguousarray(answer[name][kept])
            answers.append(answer)
            start += count
        return answers

    def _lengths(self, inputs: Arrays) -> list[int]:
        return [inputs[name].shape[axis] for name, axes in self.padded_axes.items() for axis in axes]

    def _shape(self, name: str, array: np.ndarray, pads: bool) -> tuple[int, ...]:
        axes = self.padded_axes.get(name, ()) if pads else ()
        return tuple(0 if axis in axes else size for axis, size in enumerate(array.shape[1:], start=1))


def find_sharing(model, signature_name: str, every_signature: bool) -> Sharing | None:
    """Returns how requests to a signature share a run, or None if each must run alone.

    Args:
        model: `LoadedModel`.
        signature_name: name of a signature of the model.
        every_signature: as in `Batching`.
    """
    signature = model.signatures[signature_name]
    shapes = {name: info.tensor_shape for name, info in signature.inputs.items()}
    ranks = {name: len(shape.dim) for name, shape in shapes.items() if not shape.unknown_rank}
    recorded = model.manifest.get("signatures", {}).get(signature_name, {}).get("batching", {})
    if recorded.get("rows_independent"):
        inputs = model.inputs[signature_name]
        axes = recorded.get("padded_axes", {})
        padded = {name: axes[name] for name in inputs if axes.get(name)}
        if any(inputs[name].dtype == "string" for name in padded):  # strings have no zero
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
