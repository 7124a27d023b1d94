"""Private parts of TensorFlow."""

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

__all__ = [
    "TESTED",
    "flat_structure",
    "op_def_registry",  # whether an operation is stateful or known at all, without running it
]

TESTED = ">=2.21,<2.22"


def flat_structure(dataset: tf.data.Dataset) -> dict:
    """Returns the `output_types` and `output_shapes` that raw dataset operations require."""
    return dataset._flat_structure
