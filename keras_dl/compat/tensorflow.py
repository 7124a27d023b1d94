"""Private parts of TensorFlow."""

import tensorflow as tf
from tensorflow.python.eager import forwardprop_util, record
from tensorflow.python.framework import op_def_registry
from tensorflow.python.ops import control_flow_util
from tensorflow.python.saved_model.loader_impl import SavedModelLoader

__all__ = [
    "TESTED",
    "SavedModelLoader",  # reads a SavedModel once, so that it can be checked before it is loaded
    "flat_structure",
    "has_tangents",
    "in_xla",
    "is_recording",
    "op_def_registry",  # whether an operation is stateful or known at all, without running it
    "sum_over_replicas",
]

TESTED = ">=2.21,<2.22"


def flat_structure(dataset: tf.data.Dataset) -> dict:
    """Returns the `output_types` and `output_shapes` that raw dataset operations require."""
    return dataset._flat_structure


def has_tangents(*tensors: tf.Tensor) -> bool:
    """Whether a `tf.autodiff.ForwardAccumulator` watches one of the tensors."""
    return bool(forwardprop_util.pack_tangents(list(tensors)).tangents)


def in_xla() -> bool:
    """Whether the graph that is being traced will be compiled by XLA."""
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def is_recording() -> bool:
    """Whether a gradient tape or a forward accumulator is active."""
    return record.could_possibly_record()


def sum_over_replicas(context: tf.distribute.ReplicaContext, value: tf.Tensor) -> tf.Tensor:
    """Returns the sum of a tensor over all replicas, on each of them.

    In a graph, `context.all_reduce` runs collective operations, which fail in a process that has used a strategy with a
    different number of replicas. They are used only if merge calls are not available, as with XLA on several GPUs.
    """
    if not context.strategy.extended._use_merge_call():
        return context.all_reduce(tf.distribute.ReduceOp.SUM, value)

    def total(strategy, values):
        return strategy.extended.reduce_to(tf.distribute.ReduceOp.SUM, values, values)

    return context.merge_call(total, (value,))
