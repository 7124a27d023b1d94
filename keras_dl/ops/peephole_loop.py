"""Forward and backward pass of the LSTM with peepholes on TensorFlow, from stock operations; see `recurrence`."""

import functools

import tensorflow as tf

from keras_dl.ops.peephole_step import hold, peephole_step

# Steps per iteration of the main loop, and of the loop over the remaining steps. Unrolling spreads the overhead of an
# iteration; the work it batches should stay small compared to the whole sequence.
_SIZES = (4, 1)


def fused_loop(x, h, c, kernel, recurrent_kernel, bias, peepholes, mask, dropped):
    """Runs the recurrence on TensorFlow with a hand-written gradient.

    Args:
        x: float tensor `[B, T, D]`.
        kernel: float tensor `[D, 4U]` or `[D, 3U]`.
        bias: float tensor `[4U]` or `[3U]`.
        h, c, recurrent_kernel, dropped: as in `peephole_step`.
        peepholes: float tensor `[3, U]`, or `[2, U]` with coupled gates, of `c`'s dtype.
        mask: bool tensor `[B, T, 1]`, or None.

    Returns:
        `(outputs, h, c)`: `h` after each step, `[B, T, U]`, and the state after the last.

    Example:

    >>> none, one = tf.zeros((1, 1)), tf.ones((1, 4))
    >>> outputs, *_ = fused_loop(tf.ones((1, 2, 1)), none, none, one, one, one[0] * 0, tf.ones((3, 1)), None, None)
    >>> [round(float(h), 4) for h in outputs[0, :, 0]]
    [0.4176, 0.7993]
    """

    @tf.custom_gradient
    def run(*tensors):
        saved, *results = _call(_forward, *tensors, mask, dropped)
        home = tf.compat.v1.get_default_graph()

        def gradient(dy, dh, dc):
            @tf.custom_gradient
            def once(*tensors):
                # Tensor lists cannot leave their graph, but the gradient in a SavedModel and that of a tape around a
                # compiled function require it. In these cases, the forward pass runs again.
                *tensors, dy, dh, dc = tensors
                inside = tf.compat.v1.get_default_graph() is home
                kept = saved if inside else _call(_forward, *tensors, mask, dropped)[0]
                return _call(_backward, *tensors, mask, dropped, kept, dy, dh, dc), _no_second_order

            return once(*tensors, dy, dh, dc)

        return tuple(results), gradient

    # `custom_gradient` treats variables differently from tensors.
    return run(*map(tf.convert_to_tensor, (x, h, c, kernel, recurrent_kernel, bias, peepholes)))


def _call(function, x, h, c, kernel, *rest):
    """Calls the function; in eager mode as one graph, because the overhead of single operations would dominate."""
    if not tf.executing_eagerly():
        return function(x.shape[1] or tf.shape(x)[1], x, h, c, kernel, *rest)
    return _traced(function, x.dtype, *kernel.shape, h.shape[-1])(tf.shape(x)[1], x, h, c, kernel, *rest)


@functools.cache
def _traced(function, *_):  # one trace for all batch sizes and lengths, but not for all widths
    return tf.function(function, autograph=False, reduce_retracing=True)


def _no_second_order(*_):
    raise ValueError(
        "peephole_lstm supports only first-order gradients on TensorFlow; for higher orders run the cell in "
        "`keras.layers.RNN(PeepholeLSTMCell(...))`. Received: a request for a second-order gradient"
    )


def _parts(steps):
    """Returns `(first step, iterations, steps per iteration)` of the main loop and the loop over remaining steps."""
    parts, first = [], 0
    for size in _SIZES:
        iterations = (steps - first) // size
        if not isinstance(iterations, int) or iterations:
            parts.append((first, iterations, size))
        first += iterations * size
    return parts


def _steps_of(part, index):
    """Returns the steps of an iteration."""
    first, _, size = part
    return [first + index * size + step for step in range(size)]


class _Rows:
    """Stores the results of the steps, `[B, n]` each, like `tf.TensorArray`, but also supports zero steps.

    XLA also compiles a loop without iterations and requires a row to write to.
    """

    def __init__(self, steps, shape, dtype):
        self.steps, self.shape, self.dtype = steps, tf.stack(shape), dtype
        self.start = tf.raw_ops.TensorListReserve(
            element_shape=self.shape, num_elements=tf.maximum(steps, 1), element_dtype=dtype
        )

    def write(self, rows, first, values):
        for number, value in enumerate(values):
            rows = tf.raw_ops.TensorListSetItem(input_handle=rows, index=first + number, item=value)
        return rows

    def joined(self, rows):
        """Returns all rows as `[B, T, n]`."""
        rows = tf.raw_ops.TensorListStack(input_handle=rows, element_shape=self.shape, element_dtype=self.dtype)
        return tf.transpose(rows[: self.steps], (1, 0, 2))


def _forward(steps, x, h, c, kernel, recurrent_kernel, bias, peepholes, mask, dropped):
    """Returns the values that the backward pass needs of each part, and the results."""
    batch, units = tf.shape(x)[0], recurrent_kernel.shape[0]
    weights = tf.unstack(peepholes)
    rows = _Rows(steps, [batch, units], h.dtype)
    shapes = h.shape, c.shape

    def run_part(part, h, c, written):
        _, iterations, size = part
        # A stack: the backward pass pops iteration by iteration, which frees the memory.
        stack = tf.raw_ops.EmptyTensorList(
            element_shape=_saved_shape(size, batch, peepholes),
            max_num_elements=tf.maximum(iterations, 1),
            element_dtype=c.dtype,
        )

        def body(index, h, c, written, stack):
            here, start, gates, hs = _steps_of(part, index), [c, tf.cast(h, c.dtype)], [], []
            zs = tf.matmul(tf.concat([x[:, now] for now in here], 0), kernel) + bias
            for now, z in zip(here, tf.split(zs, size), strict=True):
                seen, *new = peephole_step(z, h, c, recurrent_kernel, weights, dropped)
                gates.append([gate for gate in seen if gate is not None])
                keep = None if mask is None else mask[:, now]
                h, c = hold(keep, new[0], h), hold(keep, new[1], c)
                hs.append(h)
            values = tf.stack([*(gate for kind in zip(*gates, strict=True) for gate in kind), *start])
            stack = tf.raw_ops.TensorListPushBack(input_handle=stack, tensor=values)
            h, c = (tf.ensure_shape(*pair) for pair in zip((h, c), shapes, strict=True))
            return index + 1, h, c, rows.write(written, here[0], hs), stack

        return tf.while_loop(lambda index, *_: index < iterations, body, (0, h, c, written, stack))[1:]

    written, saved = rows.start, []
    for part in _parts(steps):
        h, c, written, stack = run_part(part, h, c, written)
        saved.append(stack)
    return saved, rows.joined(written), h, c


def _saved_shape(size, batch, peepholes):
    """Returns the shape of the saved values of an iteration: its gates and the state before it."""
    return tf.stack([(peepholes.shape[0] + 1) * size + 2, batch, peepholes.shape[1]])


def _backward(steps, x, h, c, kernel, recurrent_kernel, bias, peepholes, mask, dropped, saved, dy, dh, dc):
    """Returns the gradients of the tensors from `x` to `peepholes`."""
    (batch, features), units, wide, dtype = (tf.shape(x)[0], x.shape[2]), h.shape[1], peepholes.dtype, x.dtype
    weights, coupled, width = tf.unstack(peepholes), peepholes.shape[0] == 2, kernel.shape[1]
    transposed = tf.transpose(recurrent_kernel)
    rows = _Rows(steps, [batch, features], dtype)
    shapes = h.shape, c.shape

    def run_part(part, stack, *slopes):
        _, iterations, size = part

        def body(index, dh, dc, dw, dp, written, stack):
            here = _steps_of(part, index)
            keep = [None if mask is None else mask[:, now] for now in here]
            stack, values = tf.raw_ops.TensorListPopBack(
                input_handle=stack, element_shape=_saved_shape(size, batch, peepholes), element_dtype=wide
            )
            values.set_shape([(len(weights) + 1) * size + 2, None, units])
            i, *f, g, o, start = tf.split(values, [size] * (len(weights) + 1) + [2])
            f = 1 - i if coupled else f[0]
            (c, old), added = tf.unstack(start), i * g
            cs = [c]
            for step in range(size):
                cs.append(hold(keep[step], f[step] * cs[-1] + added[step], cs[-1]))
            cs = tf.stack(cs)
            before, c = cs[:-1], cs[1:]
            squashed = tf.tanh(c)
            olds, seen = [tf.cast(old, dtype)], tf.unstack(tf.cast(o * squashed, dtype))
            for step in range(size - 1):
                olds.append(hold(keep[step], seen[step], olds[-1]))
            # Derivatives: of each gate's z by dc, and of the output gate's by dh; then of c by dh, and of the old c by
            # dc.
            by_i = (g - before if coupled else g) * i * (1 - i)
            by_f = [] if coupled else [before * f * (1 - f)]
            by_g, by_o = i * (1 - g * g), squashed * o * (1 - o)
            c_by_h = o * (1 - squashed * squashed) + weights[-1] * by_o
            c_by_c = f + sum(weight * by for weight, by in zip(weights[:-1], [by_i, *by_f], strict=True))
            z_by = tf.concat([by_i, *by_f, by_g, by_o], axis=-1)
            if mask is not None:
                kept = tf.stack(keep)
                z_by, c_by_h = (tf.where(kept, by, tf.zeros_like(by)) for by in (z_by, c_by_h))
                c_by_c = tf.where(kept, c_by_c, tf.ones_like(c_by_c))
            z_by, c_by_h, c_by_c = (tf.unstack(by) for by in (z_by, c_by_h, c_by_c))
            dz = [None] * size
            for step in reversed(range(size)):
                dh = dh + tf.cast(dy[:, here[step]], wide)
                dc = dc + dh * c_by_h[step]
                dz[step] = tf.concat([dc] * len(weights) + [dh], axis=-1) * z_by[step]
                back = tf.cast(tf.matmul(tf.cast(dz[step], dtype), transposed), wide)
                back = back if dropped is None else back * tf.cast(dropped, wide)
                dh = back if keep[step] is None else back + tf.where(keep[step], tf.zeros_like(dh), dh)
                dc = dc * c_by_c[step]
            dz = tf.stack(dz)
            blocks = tf.split(dz, len(weights) + 1, axis=-1)
            blocks = zip([*blocks[: len(weights) - 1], blocks[-1]], [before] * (len(weights) - 1) + [c], strict=True)
            dp = dp + tf.stack([tf.reduce_sum(a * b, axis=[0, 1]) for a, b in blocks])
            dz = tf.reshape(dz, (-1, width))
            olds = olds if dropped is None else [old * dropped for old in olds]
            seen = [tf.concat(pair, 0) for pair in ([x[:, now] for now in here], olds)]
            seen = tf.concat([*seen, tf.ones((size * batch, 1), dtype)], axis=1)
            dw = dw + tf.matmul(tf.cast(seen, wide), dz, transpose_a=True)
            dx = tf.split(tf.matmul(tf.cast(dz, dtype), kernel, transpose_b=True), size)
            dh, dc = (tf.ensure_shape(*pair) for pair in zip((dh, dc), shapes, strict=True))
            return index - 1, dh, dc, dw, dp, rows.write(written, here[0], dx), stack

        found = tf.while_loop(lambda index, *_: index >= 0, body, (iterations - 1, *slopes, stack))
        return found[1:-1]

    # The gradients of both kernels and the bias are one product with their concatenated inputs.
    dw = tf.zeros((features + units + 1, width), wide)
    slopes = tf.cast(dh, wide), dc, dw, tf.zeros_like(peepholes), rows.start
    for part, stack in reversed(list(zip(_parts(steps), saved, strict=True))):
        slopes = run_part(part, stack, *slopes)
    dh, dc, dw, dp, written = slopes
    dw = tf.split(tf.cast(dw, dtype), [features, units, 1])
    return rows.joined(written), tf.cast(dh, h.dtype), dc, *dw[:2], dw[2][0], dp
