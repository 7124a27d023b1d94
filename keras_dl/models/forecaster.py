"""An LSTM forecaster trained by gradient descent, as the baseline for echo state networks."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_dl.models.checked_batches import as_series
from keras_dl.ops.backend import require_tensorflow
from keras_dl.ops.checks import require_count


def forecaster(variables, units=64):
    """Builds an LSTM that predicts the next step of a series as a change from the current one.

    Args:
        variables: int, number of variables per step.
        units: int, units of the LSTM. Defaults to 64.

    Returns:
        An uncompiled functional `keras.Model`: float `[B, T, variables]` named `series` -> `[B, T, variables]`, the
        prediction of the step after each input step.

    Example:

    >>> forecaster(3)(keras.ops.zeros((2, 50, 3))).shape
    TensorShape([2, 50, 3])
    """
    series = keras.Input((None, variables), name="series")
    x = layers.LSTM(units, return_sequences=True, name="memory")(series)
    change = layers.Dense(variables, name="change")(x)
    return keras.Model(series, layers.Add(name="next")([series, change]), name="forecaster")


def train_forecaster(series, units=64, window=100, batch_size=32, learning_rate=1e-2, seed=0):
    """Trains a `forecaster` on random windows of one series, about three per step of the series. TensorFlow only.

    The defaults are the best values of a search on Mackey-Glass series of 10,000 steps. The first quarter of each
    window is a warm-up and does not count in the loss.

    Args:
        series: array `[T, D]`, or `[T]` for one variable, standardized.
        units: int, units of the LSTM. Defaults to 64.
        window: int, steps per window; at most half the series is used. Defaults to 100.
        batch_size: int. Defaults to 32.
        learning_rate: float, the initial learning rate of a cosine decay to 0. Defaults to 0.01.
        seed: int, seeds the weights and the windows. Defaults to 0.

    Returns:
        The trained `keras.Model`.

    Example:

    >>> model = train_forecaster(np.sin(np.arange(300) / 5)[:, None], units=8)
    >>> model.name
    'forecaster'
    """
    require_tensorflow("train_forecaster")
    series = np.asarray(series, keras.config.floatx())
    series = series[:, None] if series.ndim == 1 else series
    if series.ndim != 2 or len(series) < 4:
        raise ValueError(f"Expected a series [T, D] of at least 4 steps. Received: shape {series.shape}")
    window = min(window, len(series) // 2)
    updates = 1 + 3 * len(series) // batch_size
    generator = np.random.default_rng(seed)
    places = generator.integers(len(series) - window, size=(updates, batch_size, 1)) + np.arange(window)
    known, weights = (
        tf.constant(series, keras.config.floatx()),
        np.broadcast_to(np.arange(window) >= window // 4, places.shape[1:]),
    )
    batches = tf.data.Dataset.from_tensor_slices(places.astype("int32")).map(
        lambda p: (tf.gather(known, p), tf.gather(known, p + 1), tf.constant(weights, keras.config.floatx()))
    )
    keras.utils.set_random_seed(seed)
    model = forecaster(series.shape[1], units)
    rate = keras.optimizers.schedules.CosineDecay(learning_rate, updates)
    # On a CPU, compiling with XLA takes longer than it saves.
    model.compile(keras.optimizers.Adam(rate, clipnorm=1.0), "mse", jit_compile=False)
    model.fit(batches.prefetch(tf.data.AUTOTUNE), verbose=0, shuffle=False)
    return model


def free_run(model, context, steps):
    """Forecasts in closed loop: each output of a `forecaster` is its next input. TensorFlow only.

    Args:
        model: a model from `forecaster`.
        context: float tensor `[B, T, variables]`, or `[T]` for one series of one variable, T at least 1: the known
            steps.
        steps: int, number of steps to forecast, at least 1.

    Returns:
        float tensor `[B, steps, variables]`, the steps after the context.

    Raises:
        ValueError: if `steps` is out of range, or the context has a different shape.

    Example:

    >>> free_run(forecaster(1), keras.ops.zeros((2, 50, 1)), steps=84).shape
    TensorShape([2, 84, 1])
    """
    require_tensorflow("free_run")
    change, steps = model.get_layer("change"), require_count("steps", steps)
    context = tf.cast(as_series(context)[0], change.compute_dtype)
    if context.shape.rank != 3 or context.shape[-1] != change.units or context.shape[1] == 0:
        raise ValueError(f"Expected a context [B, T, {change.units}], T above 0. Received: shape {context.shape}")
    return _free_run(model)(context, tf.constant(steps))


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
