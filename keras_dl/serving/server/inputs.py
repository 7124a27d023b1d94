"""The inputs of a signature, against which every request is checked before the model runs.

TensorFlow Serving compares only dtypes. A graph that gets a shape other than its signature's may abort the process
instead of failing the request (https://github.com/tensorflow/tensorflow/issues/111453), and all models with it.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from keras_dl.serving.server.errors import invalid


@dataclass(frozen=True)
class Input:
    """An input of a signature. `str(input)` is a description such as "float32 of shape (None, 8)".

    Attributes:
        name: name of the input.
        dtype: dtype of its values.
        shape: its sizes, with None for an unknown one; None for an unknown rank.
    """

    name: str
    dtype: tf.DType
    shape: tuple[int | None, ...] | None

    @functools.cached_property
    def _numpy_dtype(self) -> np.dtype:
        return np.dtype(self.dtype.as_numpy_dtype)

    def __str__(self) -> str:
        return self.dtype.name if self.shape is None else f"{self.dtype.name} of shape {self.shape}"

    def error(self, received: str) -> tf.errors.InvalidArgumentError:
        """Returns the error for a value that does not fit, which `received` describes."""
        return invalid(f"input {self.name}: expected {self}. Received: {received}")

    def check(self, array: np.ndarray) -> None:
        """Raises tf.errors.InvalidArgumentError if an array has the wrong dtype, rank, or size of a known axis."""
        if array.dtype != self._numpy_dtype:
            raise self.error(f"{tf.as_dtype(array.dtype).name} of shape {array.shape}")
        if self.shape is None:
            return
        if more := len(self.shape) - array.ndim:
            levels = f"{abs(more)} level{'s' * (abs(more) > 1)}"
            change = f"nest it {levels} deeper" if more > 0 else f"remove {levels} of nesting"
            raise self.error(f"shape {array.shape}: {change}")
        for axis, (expected, size) in enumerate(zip(self.shape, array.shape, strict=True)):
            if expected not in (None, size):
                raise self.error(f"shape {array.shape}: axis {axis} must have size {expected}")


def read_inputs(signature: meta_graph_pb2.SignatureDef) -> dict[str, Input]:
    """Returns the inputs of a signature by name."""
    return {name: Input(name, tf.as_dtype(info.dtype), _shape(info)) for name, info in signature.inputs.items()}


def check_inputs(inputs: Mapping[str, Input], arrays: Mapping[str, np.ndarray]) -> None:
    """Checks the arrays of a request, one for each input.

    Raises:
        tf.errors.InvalidArgumentError: if an array has the wrong dtype, rank, or size of a known axis.
    """
    for name, expected in inputs.items():
        expected.check(arrays[name])


def _shape(info: meta_graph_pb2.TensorInfo) -> tuple[int | None, ...] | None:
    if info.tensor_shape.unknown_rank:
        return None
    return tuple(None if dimension.size < 0 else dimension.size for dimension in info.tensor_shape.dim)
