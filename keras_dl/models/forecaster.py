"""A trained recurrent network as a forecaster: what an echo state network has to be better than."""

import keras
import tensorflow as tf
from keras import layers


def forecaster(variables, units=64):
    """An LSTM that predicts the next step of a series as a change of the present one.

    Args:
        variables: int, of a step.
        units: int, of the LSTM. Defaults to 64.

    Returns:
        An uncompiled functional `keras.Model`: float `[B, T, variables]` named `series` -> the step that follows each,
        `[B, T, variables]`.

    Example:

    >>> forecaster(3)(keras.ops.zeros((2, 50, 3))).shape
    TensorShape([2, 50, 3])
    """
    series = keras.Input((None, variables), name="series")
    x = layers.LSTM(units, return_sequences=True, name="memory")(series)
    change = layers.Dense(variables, name="change")(x)
    return keras.Model(series, layers.Add(name="next")([series, change]), name="forecaster")


def free_run(model, context, steps):
    """Lets a `forecaster` go on from its own outputs.

    Args:
        model: from `forecaster`.
        context: float tensor `[B, T, variables]`, what is known.
        steps: int, to forecast.

    Returns:
        float tensor `[B, steps, variables]`, what follows the context.

    Example:

    >>> free_run(forecaster(1), keras.ops.zeros((2, 50, 1)), steps=84).shape
    TensorShape([2, 84, 1])
    """
    return _free_run(model)(tf.cast(context, tf.float32), tf.constant(steps))


def _free_run(model):
    cell, change = model.get_layer("memory").cell, model.get_layer("change")
    read = layers.RNN(cell, return_state=True)

    @tf.function
    def run(context, steps):
        output, *state = read(context)
        first = context[:, -1] + change(output)

        def step(carried, _):
            value, *state = carried
            output, state = cell(value, state)
            return value + change(output), *state

        values = tf.scan(step, tf.range(steps - 1), (first, *state))[0]
        return tf.transpose(tf.concat([first[None], values], axis=0), [1, 0, 2])

    return run
