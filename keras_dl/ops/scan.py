"""A loop over time for every Keras backend, differentiable under XLA on TensorFlow."""

import keras
from keras import ops


def scan(step, states, inputs=(), length=None, keep=True):
    """Applies `step` at each time step and records the first state.

    It replaces `keras.ops.scan`, whose gradient does not compile under XLA on TensorFlow, and whose number of steps
    cannot be a tensor, as exported forecasts require.

    Args:
        step: function `(states, slices) -> states` of two lists of tensors; shapes and dtypes of the states must not
            change.
        states: list of tensors, the states before the first step.
        inputs: list of tensors `[T, ...]`; each step receives a slice.
        length: int, or int tensor on TensorFlow, the number of steps if there are no inputs.
        keep: bool, whether to record the states; False saves memory. Defaults to True.

    Returns:
        `(states, history)`: the last states, and `states[0]` after each step, `[T, ...]`, or None if `keep` is False.

    Example:

    >>> import numpy as np
    >>> states, history = scan(lambda s, x: [s[0] + x[0]], [np.zeros(())], [np.array([1.0, 2.0, 3.0])])
    >>> [float(total) for total in history]
    [1.0, 3.0, 6.0]
    """
    states = [ops.convert_to_tensor(state) for state in states]
    inputs = [ops.convert_to_tensor(tensor) for tensor in inputs]
    if keras.backend.backend() == "tensorflow":
        return _scan_tensorflow(step, states, inputs, length, keep)

    if not inputs and not length:  # not supported by `scan` of every backend
        return states, ops.zeros((0, *states[0].shape), states[0].dtype) if keep else None

    def body(carry, slices):
        carry = step(carry, slices)
        return carry, carry[0] if keep else None

    return ops.scan(body, states, inputs or None, length=length)


def _scan_tensorflow(step, states, inputs, length, keep):
    import tensorflow as tf

    if inputs:
        length = inputs[0].shape[0] if inputs[0].shape[0] is not None else tf.shape(inputs[0])[0]
    slices = [tf.TensorArray(x.dtype, length, element_shape=x.shape[1:]).unstack(x) for x in inputs]
    # If there may be no steps, the initial state is written first, because `stack` needs the shape of an element.
    ahead = 0 if (isinstance(length, int) and length) or not keep else 1
    history = tf.TensorArray(states[0].dtype, length + ahead if keep else 0, element_shape=states[0].shape)
    history = history.write(0, states[0]) if ahead else history

    def body(time, states, history):
        new = step(states, [array.read(time) for array in slices])
        for tensor, old in zip(new, states, strict=True):
            tensor.set_shape(old.shape)
        return time + 1, new, history.write(time + ahead, new[0]) if keep else history

    _, states, history = tf.while_loop(
        lambda time, *_: time < length,
        body,
        (0, states, history),
        maximum_iterations=length,  # required by XLA to differentiate the loop
    )
    return states, history.stack()[ahead:] if keep else None
