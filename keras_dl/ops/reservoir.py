"""The recurrence of a leaky reservoir."""

import functools

import keras
from keras import ops

from keras_dl.ops.scan import scan

# Gathering a link costs about as much as this many multiplications of a dense product (measured on AVX-512, 1 to 64
# series, 10 to 100 links): gathering is faster with fewer than units / DENSE_SPEEDUP links per unit.
DENSE_SPEEDUP = 10
# XLA fuses a sum over this many gathered rows into one loop; it writes more than 20 to memory first, 8 times slower.
LINKS_AT_ONCE = 10
# These need no transposition if the series are last.
_ELEMENTWISE = {
    ops.tanh,
    *(
        getattr(keras.activations, name)
        for name in ("elu", "gelu", "linear", "relu", "selu", "sigmoid", "silu", "tanh")
    ),
}
# Up to this many features are multiplied in the loop, which is faster than writing and reading their products.
FEW_FEATURES = 4


def recurrent_product(state, kernel):
    """Returns `h W` for dense weights or lists of links.

    Args:
        state: float tensor `[B, N]`.
        kernel: float tensor `[N, N]`, or `(sources, values)`, each `[fan_in, N]`: sources[:, j] are the units with
            links into unit j, and values[:, j] are their weights.

    Example:

    >>> import numpy as np
    >>> state = np.array([[1.0, 10.0]])
    >>> sources, values = np.array([[1, 0]]), np.array([[0.5, 2.0]])
    >>> ops.convert_to_numpy(recurrent_product(state, (sources, values)))
    array([[5., 2.]])
    """
    if not isinstance(kernel, tuple | list):
        return ops.matmul(state, kernel)
    return ops.transpose(_gathered(ops.transpose(state), *kernel))


def activated(activation, total, units_last=True):
    """Applies an activation to `[B, N]`, or to `[N, B]` if `units_last` is False.

    Args:
        activation: function; one that is not elementwise, such as softmax, works along the last axis.
        total: float tensor.
        units_last: bool. Defaults to True.

    Raises:
        ValueError: if the activation changes the number of units.

    Example:

    >>> import numpy as np
    >>> ops.convert_to_numpy(activated(keras.activations.softmax, np.zeros((2, 4)), units_last=False))[:, 0]
    array([0.5, 0.5])
    """
    if not units_last and activation not in _ELEMENTWISE:
        return ops.transpose(activated(activation, ops.transpose(total)))
    result = activation(total)
    if len(result.shape) != len(total.shape) or result.shape[-1] != total.shape[-1]:
        name = getattr(activation, "__name__", activation)
        raise ValueError(
            f"Expected an `activation` that keeps the shape {tuple(total.shape)}. Received: {name}, which returns "
            f"{tuple(result.shape)}"
        )
    return result


def _gathered(state, sources, values):
    """Computes the product for a state `[N, B]`; it reads whole rows, so links cost the same for 1 or 16 series."""
    total = 0
    for first in range(0, sources.shape[0], LINKS_AT_ONCE):
        part = slice(first, first + LINKS_AT_ONCE)
        total = total + ops.sum(ops.take(state, sources[part], axis=0) * ops.expand_dims(values[part], -1), axis=0)
    return total


def reservoir_states(drive, state, kernel, leak_rate, activation=ops.tanh, mask=None, keep=True):
    """Runs `h = (1 - leak_rate) h + leak_rate activation(drive_t + h W)` over time.

    The drive is everything that does not depend on the state: inputs times weights, bias, noise. In eager mode on
    TensorFlow, XLA compiles the loop once for every shape, unless a tape records it; in a graph, the caller decides
    whether to compile it.

    Args:
        drive: float tensor `[B, T, N]`; or `(inputs, input_kernel, bias)`, `[B, T, D]`, `[D, N]` and `[N]`, for
            `inputs input_kernel + bias`.
        state: float tensor `[B, N]`, the state before the first step.
        kernel: recurrent weights, as for `recurrent_product`.
        leak_rate: float tensor, a scalar or `[N]`, above 0 (slow) and at most 1 (no leaky memory).
        activation: function of the units, along the last axis. Defaults to `keras.ops.tanh`.
        mask: bool tensor `[B, T]` or None (default). False keeps the state, for any drive, even NaN.
        keep: bool, whether to return all states. Defaults to True.

    Returns:
        `(states, last)`: `[B, T, N]`, or None if `keep` is False, and `[B, N]`.

    Raises:
        ValueError: if the number of features of the inputs differs from that of the input kernel.

    Example:

    >>> import numpy as np
    >>> drive = np.ones((1, 2, 1))
    >>> states, last = reservoir_states(drive, np.zeros((1, 1)), np.ones((1, 1)), 0.5, activation=lambda x: x)
    >>> ops.convert_to_numpy(states)[0, :, 0]                    # 0.5 * 1; 0.5 * 0.5 + 0.5 * (1 + 0.5)
    array([0.5, 1. ])

    Reference: Jaeger, Lukosevicius, Popovici and Siewert 2007, "Optimization and applications of echo state networks
    with leaky-integrator neurons", eq. 1, without noise and feedback.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        from keras_dl.compat.tensorflow import has_tangents, is_recording

        inputs = drive[0] if isinstance(drive, tuple | list) else drive
        # Jacobians and second derivatives do not pass through XLA, nor derivatives in forward mode through any loop.
        if tf.executing_eagerly() and not has_tangents(*map(ops.convert_to_tensor, (inputs, state))):
            return _graph(not is_recording())(drive, state, kernel, leak_rate, activation, mask, keep)
    return _run(drive, state, kernel, leak_rate, activation, mask, keep)


@functools.cache
def _graph(jit_compile):
    import tensorflow as tf

    return tf.function(_run, jit_compile=jit_compile)


def _run(drive, state, kernel, leak_rate, activation, mask, keep):
    gather = isinstance(kernel, tuple | list)
    weights = None
    if isinstance(drive, tuple | list):
        drive, *weights = drive
        if drive.shape[-1] != weights[0].shape[0]:
            raise ValueError(f"Expected {weights[0].shape[0]} features. Received: inputs of shape {tuple(drive.shape)}")
        if weights[0].shape[0] > FEW_FEATURES:
            drive, weights = ops.matmul(drive, weights[0]) + weights[1], None
    # Time first; with links, series last.
    order, back = ((1, 2, 0), (2, 0, 1)) if gather else ((1, 0, 2), (1, 0, 2))
    inputs = [ops.transpose(drive, order)]
    leak_rate = ops.cast(leak_rate, drive.dtype)
    if mask is not None:
        inputs.append(ops.expand_dims(ops.transpose(mask), 1 if gather else -1))
    if gather:
        state = ops.transpose(state)
        leak_rate = ops.reshape(leak_rate, (-1, 1))
    if weights:
        bias = ops.reshape(weights[1], (-1, 1)) if gather else weights[1]
        rows = [ops.reshape(row, bias.shape) for row in ops.unstack(weights[0])]

    def driven(now):
        if not weights:
            return now
        features = ops.split(now, len(rows), axis=0 if gather else -1)
        return sum((feature * row for feature, row in zip(features, rows, strict=True)), bias)

    def step(states, slices):
        (old,) = states
        heard = _gathered(old, *kernel) if gather else ops.matmul(old, kernel)
        new = (1 - leak_rate) * old + leak_rate * activated(activation, driven(slices[0]) + heard, not gather)
        return [new if mask is None else ops.where(slices[1], new, old)]

    (last,), states = scan(step, [state], inputs, keep=keep)
    return ops.transpose(states, back) if keep else None, ops.transpose(last) if gather else last
