"""The loop of the LSTM with peepholes on TensorFlow, ahead and back, of stock ops alone: see `recurrence`."""

import functools

import tensorflow as tf
from keras import ops

# Steps in one turn of the loop: what a turn costs by itself is paid once for all of them.
_STEPS = 4


def peephole_step(z, h, c, recurrent_kernel, peepholes, dropped):
    """One step of an LSTM with peepholes.

    Args:
        z: float tensor `[B, 4U]`, the product of the inputs and the kernel with the bias; `[B, 3U]` with coupled gates.
        h, c: float tensors `[B, U]`, the state; in half precision `c` is float32.
        recurrent_kernel: float tensor `[U, 4U]` or `[U, 3U]`.
        peepholes: float tensors `[U]` of `c`'s dtype: `(i, f, o)`; `(i, o)` with coupled gates.
        dropped: float tensor `[B, U]` that `h` is multiplied by before the product, or None.

    Returns:
        `(gates, h, c)`: `[i, f, tanh(z_c), o]`, with None for f where the gates are coupled, and the new state.

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
    """`new` where `keep` is True or None, else `old`.

    Example:

    >>> import numpy as np
    >>> hold(np.array([[True], [False]]), np.ones((2, 1)), np.zeros((2, 1))).numpy().tolist()
    [[1.0], [0.0]]
    """
    return new if keep is None else ops.where(keep, new, old)


def fused_loop(z, h, c, recurrent_kernel, peepholes, mask, dropped):
    """The recurrence inside a TensorFlow graph, with its gradient written by hand.

    Ahead and back there is one small product a step; weights' gradients are products over all steps after the loop.

    Args:
        z: float tensor `[T, B, 4U]` or `[T, B, 3U]`, time-major, as in `peephole_step` for each step.
        h, c, recurrent_kernel, dropped: as in `peephole_step`.
        peepholes: float tensor `[3, U]`, or `[2, U]` with coupled gates, of `c`'s dtype.
        mask: bool tensor `[T, B, 1]`, or None.

    Returns:
        `(outputs, h, c)`: `h` after each step, `[T, B, U]`, and the state after the last.

    Example:

    >>> none = tf.zeros((1, 1))
    >>> loop = tf.function(lambda z: fused_loop(z, none, none, tf.ones((1, 4)), tf.ones((3, 1)), None, None)[0])
    >>> [round(float(h), 4) for h in loop(tf.ones((2, 1, 4)))[:, 0, 0]]
    [0.4176, 0.7993]
    """
    parts = _parts(z)

    def ahead(z, h, c, *weights):
        outputs, saved, state = [], [], (h, c)
        for part in parts:
            found, stack, *state = _forward(part, z, mask, *state, *weights, dropped)
            outputs.append(found)
            saved.append(stack)
        return saved, outputs[0] if len(parts) == 1 else tf.concat(outputs, axis=0), *state

    @tf.custom_gradient
    def run(z, h, c, *weights):
        saved, outputs, *state = ahead(z, h, c, *weights)
        home = tf.compat.v1.get_default_graph()

        def gradient(*slopes):
            @tf.custom_gradient
            def once(z, h, c, recurrent_kernel, peepholes, outputs, *slopes):
                # The lists cannot leave their graph: not for the gradient in a SavedModel, nor for that of a tape
                # around a compiled function. There the way ahead is gone once more.
                inside = tf.compat.v1.get_default_graph() is home
                stacks = saved if inside else ahead(z, h, c, recurrent_kernel, peepholes)[0]
                slopes = _backward(parts, h, recurrent_kernel, peepholes, outputs, stacks, mask, dropped, *slopes)
                return slopes, _no_second_order

            return once(z, h, c, *weights, outputs, *slopes)

        return (outputs, *state), gradient

    return run(z, h, c, recurrent_kernel, peepholes)


def _parts(z):
    """`(first step, turns, steps in a turn)` of the loops: most steps in large turns, the rest one by one."""
    steps = tf.shape(z)[0] if z.shape[0] is None else z.shape[0]
    whole = steps // _STEPS * _STEPS
    parts = [(0, steps // _STEPS, _STEPS), (whole, steps - whole, 1)]
    return parts if z.shape[0] is None else [part for part in parts if part[1]] or parts[1:]


@functools.partial(tf.function, autograph=False, reduce_retracing=True)
def _traced(units, gates, *tensors):
    shapes = ([None, None, gates * units], [None, units], [None, units], [units, gates * units], [gates - 1, units])
    for tensor, shape in zip(tensors, shapes, strict=False):  # one trace for any batch and time, not for any width
        tensor.set_shape(shape)
    return fused_loop(*tensors)


def fused_loop_eagerly(z, h, c, recurrent_kernel, *rest):
    """`fused_loop` as one function: op by op it would cost more than it computes.

    Example:

    >>> none = tf.zeros((1, 1))
    >>> outputs, *_ = fused_loop_eagerly(tf.ones((2, 1, 4)), none, none, tf.ones((1, 4)), tf.ones((3, 1)), None, None)
    >>> outputs.shape
    TensorShape([2, 1, 1])
    """
    units, width = recurrent_kernel.shape
    return _traced(units, width // units, z, h, c, recurrent_kernel, *rest)


def _no_second_order(*_):
    raise ValueError(
        "peephole_lstm has gradients of first order on TensorFlow; for higher orders run the cell in the loop of "
        "Keras, `keras.layers.RNN(PeepholeLSTMCell(...))`. Received: a request for a gradient of its gradient"
    )


class _Rows:
    """What the turns of a loop write: like `tf.TensorArray`, but without complaint when there are none.

    XLA compiles a loop that never turns too, and wants a row for it to write to.
    """

    def __init__(self, turns, shape, dtype):
        self.turns, self.shape, self.dtype = turns, tf.stack(shape), dtype
        self.start = tf.raw_ops.TensorListReserve(
            element_shape=self.shape, num_elements=tf.maximum(turns, 1), element_dtype=dtype
        )

    def write(self, rows, index, row):
        return tf.raw_ops.TensorListSetItem(input_handle=rows, index=index, item=row)

    def joined(self, rows):
        """`[T, B, n]` of rows `[steps, B, n]`."""
        rows = tf.raw_ops.TensorListStack(input_handle=rows, element_shape=self.shape, element_dtype=self.dtype)
        joined = tf.reshape(rows[: self.turns], tf.concat([[self.turns * self.shape[0]], self.shape[1:]], 0))
        joined.set_shape([None, None, tf.get_static_value(self.shape[2])])
        return joined


def _forward(part, z, mask, h, c, recurrent_kernel, peepholes, dropped):
    """The outputs, what the way back needs (gates and old cell state, for each turn) and the last state."""
    (first, turns, steps), peepholes = part, tf.unstack(peepholes)
    batch, units, gates = tf.shape(z)[1], recurrent_kernel.shape[0], len(peepholes) + 1
    outputs = _Rows(turns, [steps, batch, units], h.dtype)
    # A stack, from which the way back takes one turn after the other, so that its memory is free for the slopes.
    stack = tf.raw_ops.EmptyTensorList(
        element_shape=tf.stack([(gates + 1) * steps, batch, units]),
        max_num_elements=tf.maximum(turns, 1),
        element_dtype=c.dtype,
    )

    def turn(index, h, c, output_rows, stack):
        start, hs, values = (h, c), [], []
        for now in range(steps):
            now += first + index * steps
            seen, *new = peephole_step(z[now], h, c, recurrent_kernel, peepholes, dropped)
            values.append([*(gate for gate in seen if gate is not None), c])
            keep = None if mask is None else mask[now]
            h, c = hold(keep, new[0], h), hold(keep, new[1], c)
            hs.append(h)
        for tensor, before in zip((h, c), start, strict=True):
            tensor.set_shape(before.shape)
        values = [value for kind in zip(*values, strict=True) for value in kind]
        stack = tf.raw_ops.TensorListPushBack(input_handle=stack, tensor=tf.stack(values))
        return index + 1, h, c, outputs.write(output_rows, index, tf.stack(hs)), stack

    _, h, c, output_rows, stack = tf.while_loop(lambda index, *_: index < turns, turn, (0, h, c, outputs.start, stack))
    return outputs.joined(output_rows), stack, h, c


def _backward(parts, h, recurrent_kernel, peepholes, outputs, saved, mask, dropped, dy, dh, dc):
    """The slopes of `z`, `h`, `c`, `recurrent_kernel` and `peepholes`."""
    wide, transposed = peepholes.dtype, tf.transpose(recurrent_kernel)
    dh, dp, dz = tf.cast(dh, wide), tf.zeros_like(peepholes), []
    for part, gates in reversed(list(zip(parts, saved, strict=True))):
        found, dh, dc, dp = _back(part, gates, mask, dy, dh, dc, dp, transposed, peepholes, dropped)
        dz.insert(0, found)
    dz = dz[0] if len(dz) == 1 else tf.concat(dz, axis=0)
    # In two products, because to put the first `h` before the others would be to copy them.
    dr = sum(
        _summed_product(*pair, dropped, wide) for pair in ((h[None][: tf.shape(dz)[0]], dz[:1]), (outputs[:-1], dz[1:]))
    )
    return dz, tf.cast(dh, h.dtype), dc, tf.cast(dr, recurrent_kernel.dtype), dp


def _summed_product(before, dz, dropped, wide):
    before = before if dropped is None else before * dropped
    before, dz = (tf.reshape(tf.cast(tensor, wide), (-1, tensor.shape[-1])) for tensor in (before, dz))
    return tf.matmul(before, dz, transpose_a=True)


def _back(part, stack, mask, dy, dh, dc, dp, transposed, peepholes, dropped):
    """`_forward` backwards. What does not depend on the slopes is computed for a whole turn at once."""
    weights, wide, dtype = tf.unstack(peepholes), peepholes.dtype, transposed.dtype
    (first, turns, steps), coupled = part, len(weights) == 2
    batch, units = tf.shape(dy)[1], transposed.shape[1]
    slopes = _Rows(turns, [steps, batch, len(weights) * units + units], dtype)
    stacked = tf.stack([(len(weights) + 2) * steps, batch, units])

    def turn(index, dh, dc, dp, stack, slope_rows):
        start, here = (dh, dc), [first + index * steps + now for now in range(steps)]
        stack, values = tf.raw_ops.TensorListPopBack(input_handle=stack, element_shape=stacked, element_dtype=wide)
        i, *f, g, o, before = tf.split(values, len(weights) + 2)
        f = 1 - i if coupled else f[0]
        c = f * before + i * g
        squashed = tf.tanh(c)
        # Of each gate's z by dc, and of the output gate's by dh; then of c by dh, and of the old c by dc.
        by_i = (g - before if coupled else g) * i * (1 - i)
        by_f = [] if coupled else [before * f * (1 - f)]
        by_g, by_o = i * (1 - g * g), squashed * o * (1 - o)
        c_by_h = o * (1 - squashed * squashed) + weights[-1] * by_o
        c_by_c = f + sum(weight * by for weight, by in zip(weights[:-1], [by_i, *by_f], strict=True))
        z_by = tf.concat([by_i, *by_f, by_g, by_o], axis=-1)
        keep = [None if mask is None else mask[now] for now in here]
        if mask is not None:
            kept = tf.stack(keep)
            z_by, c_by_h = (tf.where(kept, by, tf.zeros_like(by)) for by in (z_by, c_by_h))
            c_by_c = tf.where(kept, c_by_c, tf.ones_like(c_by_c))
        z_by, c_by_h, c_by_c = (tf.unstack(by, steps) for by in (z_by, c_by_h, c_by_c))
        dzs = [None] * steps
        for now in reversed(range(steps)):
            dh = dh + tf.cast(dy[here[now]], wide)
            dc = dc + dh * c_by_h[now]
            dzs[now] = tf.concat([dc] * len(weights) + [dh], axis=-1) * z_by[now]
            back = tf.cast(tf.matmul(tf.cast(dzs[now], dtype), transposed), wide)
            back = back if dropped is None else back * tf.cast(dropped, wide)
            dh = back if keep[now] is None else back + tf.where(keep[now], tf.zeros_like(dh), dh)
            dc = dc * c_by_c[now]
        dz = tf.stack(dzs)
        blocks = tf.split(dz, len(weights) + 1, axis=-1)
        seen = [before] * (len(weights) - 1) + [c]
        blocks = [*blocks[: len(weights) - 1], blocks[-1]]
        dp = dp + tf.stack([tf.reduce_sum(a * b, axis=[0, 1]) for a, b in zip(blocks, seen, strict=True)])
        for tensor, begun in zip((dh, dc), start, strict=True):
            tensor.set_shape(begun.shape)
        return index - 1, dh, dc, dp, stack, slopes.write(slope_rows, index, tf.cast(dz, dtype))

    _, dh, dc, dp, _, slope_rows = tf.while_loop(
        lambda index, *_: index >= 0, turn, (turns - 1, dh, dc, dp, stack, slopes.start)
    )
    return slopes.joined(slope_rows), dh, dc, dp
