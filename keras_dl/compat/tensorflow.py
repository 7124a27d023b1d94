"""Private parts of TensorFlow."""

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

__all__ = [
    "TESTED",
    "flat_structure",
    "op_def_registry",  # whether an operation is stateful or known at all, without running it
    "sum_over_replicas",
]

TESTED = ">=2.21,<2.22"


def flat_structure(dataset: tf.data.Dataset) -> dict:
    """Returns the `output_types` and `output_shapes` that raw dataset operations require."""
    return dataset._flat_structure


def sum_over_replicas(context: tf.distribute.ReplicaContext, value: tf.Tensor) -> tf.Tensor:
    """Returns the sum of a tensor over all replicas, on each of them.

    `context.all_reduce` runs collective operations in a graph, which fail if a process uses strategies of different
    sizes one after the other. Only where these are the only way, such as XLA on several GPUs, are they used.
    """
    if not context.strategy.extended._use_merge_call():
        return context.all_reduce(tf.distribute.ReduceOp.SUM, value)

    def total(strategy, values):
        return strategy.extended.reduce_to(tf.distribute.ReduceOp.SUM, values, values)

    return context.merge_call(total, (value,))
