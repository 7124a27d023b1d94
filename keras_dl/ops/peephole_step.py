"""One step of the LSTM with peepholes, on any backend; see `recurrence`."""

from keras import ops


def peephole_step(z, h, c, recurrent_kernel, peepholes, dropped):
    """Computes one step of an LSTM with peepholes.

    Args:
        z: float tensor `[B, 4U]`, the product of the inputs and the kernel with the bias; `[B, 3U]` with coupled gates.
        h, c: float tensors `[B, U]`, the state; in half precision `c` is float32.
        recurrent_kernel: float tensor `[U, 4U]` or `[U, 3U]`.
        peepholes: float tensors `[U]` of `c`'s dtype: `(i, f, o)`; `(i, o)` with coupled gates.
        dropped: float tensor `[B, U]` by which `h` is multiplied before the product, or None.

    Returns:
        `(gates, h, c)`: `[i, f, tanh(z_c), o]`, with f None if the gates are coupled, and the new state.

    Example:

    >>> import keras
    >>> one = keras.ops.ones((1, 1))
    >>> _, h, c = peephole_step(keras.ops.zeros((1, 4)), one, one, keras.ops.zeros((1, 4)), [one, one, one], None)
    >>> round(float(c[0, 0]), 4)
    0.7311
    """
    z = ops.cast(z + ops.matmul(h if dropped is None else h * dropped, recurrent_kernel), c.dtype)
    i, *f, g, o = ops.split(z, len(peepholes) + 1, axis=-1)
    i = ops.sigmoid(i + peepholes[0] * c)
    f = ops.sigmoid(f[0] + peepholes[1] * c) if f else None
    g = ops.tanh(g)
    c = (1 - i if f is None else f) * c + i * g
    o = ops.sigmoid(o + peepholes[-1] * c)
    return [i, f, g, o], ops.cast(o * ops.tanh(c), h.dtype), c


def hold(keep, new, old):
    """Returns `new` where `keep` is True or None, else `old`.

    Example:

    >>> import numpy as np
    >>> hold(np.array([[True], [False]]), np.ones((2, 1)), np.zeros((2, 1))).numpy().tolist()
    [[1.0], [0.0]]
    """
    return new if keep is None else ops.where(keep, new, old)
