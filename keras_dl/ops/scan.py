"""A loop over time that runs on every Keras backend, and under XLA with gradients on TensorFlow."""

import keras
from keras import ops


def scan(step, states, inputs=(), length=None, keep=True):
    """Applies `step` once a time step, and keeps the first of the states.

    `keras.ops.scan` does the same but for two things needed here: on TensorFlow its gradient does not compile under
    XLA, and the number of its steps cannot be a tensor, as it is in an exported forecast.

    Args:
        step: function `(states, slices) -> states` of two lists of tensors; shapes and dtypes of the states must not
            change.
        states: list of tensors, the states before the first step.
        inputs: list of tensors `[T, ...]`, of which each step gets a slice.
        length: int or int tensor, the number of steps, if there are no inputs. A tensor on TensorFlow only.
        keep: bool. False if only the last states are wanted, which then is all the memory that is used.

    Returns:
        `(states, history)`: the last states, and `states[0]` after each step, `[T, ...]`, or None.

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

    if not inputs and not length:  # which not every backend's scan takes
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
    # If it may be none of a shape not yet known, what stood before the first step says which shape.
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
        maximum_iterations=length,  # without it XLA cannot differentiate the loop
    )
    return states, history.stack()[ahead:] if keep else None
