"""Recurrent networks as pure functions over whole sequences: the LSTM with peepholes.

Shapes: B sequences, T steps, D features, U units; time-major tensors inside, `[T, B, ...]`.

The product of inputs and kernel stands before the loop, all products for gradients of weights after it. On TensorFlow
the gradient is written by hand, of stock ops alone, so that the same graph runs as it is, under XLA, and in a server.

References: Gers, Schraudolph and Schmidhuber 2002, "Learning precise timing with LSTM recurrent networks",
https://www.jmlr.org/papers/volume3/gers02a/gers02a.pdf; coupled gates: Greff et al. 2017, "LSTM: a search space
odyssey", https://arxiv.org/abs/1503.04069
"""

import functools

import keras
import tensorflow as tf
from keras import ops

# Steps in one turn of the loop: what a turn costs by itself is paid once for all of them.
_STEPS = 4


def peephole_lstm(
    inputs,
    state,
    kernel,
    recurrent_kernel,
    bias,
    peepholes,
    mask=None,
    recurrent_dropout_mask=None,
    go_backwards=False,
    zero_output_for_mask=False,
):
    """Runs an LSTM whose gates see the cell state over sequences.

    `i = s(z_i + p_i c')`, `f = s(z_f + p_f c')`, `c = f c' + i tanh(z_c)`, `o = s(z_o + p_o c)`, `h = o tanh(c)` with
    `z = x W + h' R + b`: `i` and `f` see the old cell state, `o` the new one. With two peepholes instead of three the
    gates are coupled, `f = 1 - i`, and the kernels hold three blocks `i, c, o` instead of four `i, f, c, o`.

    A masked step keeps `h` and `c` and repeats the output before it (zeros before the first valid step), whatever its
    content, NaN included. In half precision the cell state is kept in float32.

    Args:
        inputs: float tensor `[B, T, D]`.
        state: `(h, c)`, float tensors `[B, U]`, before the first step.
        kernel: float tensor `[D, 4U]`; `[D, 3U]` with coupled gates.
        recurrent_kernel: float tensor `[U, 4U]`; `[U, 3U]` with coupled gates.
        bias: float tensor `[4U]` or `[3U]`, or None.
        peepholes: float tensors `[U]`: `(i, f, o)`; `(i, o)` with coupled gates.
        mask: bool tensor `[B, T]`, False at padding, or None (default).
        recurrent_dropout_mask: float tensor `[B, U]` that `h'` is multiplied by before `R`, or None (default).
        go_backwards: bool, whether to run from the last step to the first; outputs come in the order of the run.
        zero_output_for_mask: bool, whether a masked step puts out zeros instead.

    Returns:
        `(outputs, h, c)`: `[B, T, U]` and the state `[B, U]` after the last step, all of the inputs' dtype.

    Second-order gradients raise a ValueError on TensorFlow; the loop of `keras.layers.RNN` has them.

    Example:

    >>> one, none = keras.ops.ones((1, 4)), keras.ops.zeros((1, 1))
    >>> outputs, h, c = peephole_lstm(keras.ops.ones((1, 2, 1)), (none, none), one, one, None, one[:, :3][0][:, None])
    >>> [round(float(h), 4) for h in outputs[0, :, 0]]
    [0.4176, 0.7993]
    """
    if mask is not None:
        # NaN in padding times its gradient of 0 would be NaN in the gradient of the kernel.
        mask = ops.cast(mask, "bool")
        inputs = ops.where(mask[..., None], inputs, ops.zeros_like(inputs))
        mask = ops.transpose(mask)[..., None]
    time_major = ops.transpose(inputs, (1, 0, 2))
    if go_backwards:
        time_major = ops.flip(time_major, axis=0)
        mask = mask if mask is None else ops.flip(mask, axis=0)
    steps, batch, features = ops.shape(time_major)
    z = ops.matmul(ops.reshape(time_major, (steps * batch, features)), kernel)  # so that its gradient is one product
    z = z if bias is None else z + bias
    z = ops.reshape(z, (steps, batch, kernel.shape[-1]))
    h, c = state
    c = ops.cast(c, _wide(z))
    peepholes = ops.cast(ops.stack(peepholes), _wide(z))
    run = _run
    if keras.backend.backend() == "tensorflow":
        run = _tensorflow_run_eagerly if tf.executing_eagerly() else _tensorflow_run
    outputs, h, c = run(z, h, c, recurrent_kernel, peepholes, mask, recurrent_dropout_mask)
    if mask is not None:
        shown = mask if zero_output_for_mask else ops.cumsum(ops.cast(mask, "int32"), axis=0) > 0
        outputs = ops.where(shown, outputs, ops.zeros_like(outputs))
    return ops.transpose(outputs, (1, 0, 2)), h, ops.cast(c, h.dtype)


def _wide(tensor):
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return "float32" if dtype in ("float16", "bfloat16") else dtype


def _step(z, h, c, recurrent_kernel, peepholes, dropped):
    """One step: the gates `i, f, g, o` (f is None where coupled) and the new state."""
    z = ops.cast(z + ops.matmul(h if dropped is None else h * dropped, recurrent_kernel), c.dtype)
    i, *f, g, o = ops.split(z, len(peepholes) + 1, axis=-1)
    i = ops.sigmoid(i + peepholes[0] * c)
    f = ops.sigmoid(f[0] + peepholes[1] * c) if f else None
    g = ops.tanh(g)
    c = (1 - i if f is None else f) * c + i * g
    o = ops.sigmoid(o + peepholes[-1] * c)
    return [i, f, g, o], ops.cast(o * ops.tanh(c), h.dtype), c


def _hold(keep, new, old):
    return new if keep is None else ops.where(keep, new, old)


def _run(z, h, c, recurrent_kernel, peepholes, mask, dropped):
    """The recurrence for any backend; `z` is `[T, B, 4U]`, `mask` `[T, B, 1]`."""
    peepholes = ops.unstack(peepholes, recurrent_kernel.shape[-1] // recurrent_kernel.shape[0] - 1)

    def step(state, now):
        z, *keep = now
        keep = keep[0] if keep else None
        _, *new = _step(z, *state, recurrent_kernel, peepholes, dropped)
        state = tuple(_hold(keep, *pair) for pair in zip(new, state, strict=True))
        return state, state  # TensorFlow's scan wants as many outputs as there are states

    (h, c), (outputs, _) = ops.scan(step, (h, c), (z,) if mask is None else (z, mask))
    return outputs, h, c


def _tensorflow_run(z, h, c, recurrent_kernel, peepholes, mask, dropped):
    """`_run` with its gradient written by hand: one small product a step, weights' gradients after the loop."""
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
    return _tensorflow_run(*tensors)


def _tensorflow_run_eagerly(z, h, c, recurrent_kernel, *rest):
    """`_tensorflow_run` as one function: op by op it would cost more than it computes."""
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
            seen, *new = _step(z[now], h, c, recurrent_kernel, peepholes, dropped)
            values.append([*(gate for gate in seen if gate is not None), c])
            keep = None if mask is None else mask[now]
            h, c = _hold(keep, new[0], h), _hold(keep, new[1], c)
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
