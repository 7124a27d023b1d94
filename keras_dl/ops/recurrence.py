"""Recurrent networks as pure functions over whole sequences: the LSTM with peepholes.

Shapes: B sequences, T steps, D features, U units.

On TensorFlow, the gradient is hand-written and consists of stock operations; the same graph runs with and without XLA,
and in a server.

References: Gers, Schraudolph and Schmidhuber 2002, "Learning precise timing with LSTM recurrent networks",
https://www.jmlr.org/papers/volume3/gers02a/gers02a.pdf; coupled gates: Greff et al. 2017, "LSTM: a search space
odyssey", https://arxiv.org/abs/1503.04069
"""

import keras
from keras import ops

from keras_dl.ops.peephole_loop import fused_loop
from keras_dl.ops.peephole_step import hold, peephole_step
from keras_dl.ops.precision import wide


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
    """Runs an LSTM with peepholes, whose gates see the cell state, over sequences.

    `i = s(z_i + p_i c')`, `f = s(z_f + p_f c')`, `c = f c' + i tanh(z_c)`, `o = s(z_o + p_o c)`, `h = o tanh(c)` with
    `z = x W + h' R + b`: `i` and `f` see the old cell state, `o` the new one. With two peepholes instead of three, the
    gates are coupled, `f = 1 - i`, and the kernels have three blocks `i, c, o` instead of four `i, f, c, o`.

    A masked step, even with NaN inputs, keeps `h` and `c` and repeats the previous output (zeros before the first valid
    step). In half precision, the cell state is float32.

    Args:
        inputs: float tensor `[B, T, D]`.
        state: `(h, c)`, float tensors `[B, U]`, the state before the first step.
        kernel: float tensor `[D, 4U]`; `[D, 3U]` with coupled gates.
        recurrent_kernel: float tensor `[U, 4U]`; `[U, 3U]` with coupled gates.
        bias: float tensor `[4U]` or `[3U]`, or None.
        peepholes: float tensors `[U]`: `(i, f, o)`; `(i, o)` with coupled gates.
        mask: bool tensor `[B, T]`, False at padding, or None (default).
        recurrent_dropout_mask: float tensor `[B, U]` by which `h'` is multiplied before `R`, or None (default).
        go_backwards: bool, whether to run from the last step to the first; outputs are in the order of the run.
            Defaults to False.
        zero_output_for_mask: bool, whether masked steps output zeros instead. Defaults to False.

    Returns:
        `(outputs, h, c)`: `[B, T, U]` and the state `[B, U]` after the last step, all in the dtype of the inputs.

    Second-order gradients raise a ValueError on TensorFlow; the loop of `keras.layers.RNN` supports them.

    Example:

    >>> one, none = keras.ops.ones((1, 4)), keras.ops.zeros((1, 1))
    >>> outputs, h, c = peephole_lstm(keras.ops.ones((1, 2, 1)), (none, none), one, one, None, one[:, :3][0][:, None])
    >>> [round(float(h), 4) for h in outputs[0, :, 0]]
    [0.4176, 0.7993]
    """
    if mask is not None:
        # NaN in padding, times a gradient of 0, would make the gradient of the kernel NaN.
        mask = ops.cast(mask, "bool")[..., None]
        inputs = ops.where(mask, inputs, ops.zeros_like(inputs))
    if go_backwards:
        inputs = ops.flip(inputs, axis=1)
        mask = mask if mask is None else ops.flip(mask, axis=1)
    h, c = state
    bias = ops.zeros((kernel.shape[-1],), dtype=inputs.dtype) if bias is None else bias
    c = ops.cast(c, wide(inputs.dtype))
    peepholes = ops.cast(ops.stack(peepholes), wide(inputs.dtype))
    tensors = inputs, h, c, kernel, recurrent_kernel, bias, peepholes
    run = _run if keras.backend.backend() != "tensorflow" or _forward_mode(*tensors) else fused_loop
    outputs, h, c = run(*tensors, mask, recurrent_dropout_mask)
    if mask is not None:
        shown = mask if zero_output_for_mask else ops.cumsum(ops.cast(mask, "int32"), axis=1) > 0
        outputs = ops.where(shown, outputs, ops.zeros_like(outputs))
    return outputs, h, ops.cast(c, h.dtype)


def _forward_mode(*tensors):
    """Returns whether eager TensorFlow differentiates in forward mode, which the fused loop does not support."""
    import tensorflow as tf

    from keras_dl.compat.tensorflow import has_tangents

    return tf.executing_eagerly() and has_tangents(*map(tf.convert_to_tensor, tensors))


def _run(x, h, c, kernel, recurrent_kernel, bias, peepholes, mask, dropped):
    """Runs the recurrence on any backend; see `fused_loop`."""
    z = ops.matmul(ops.transpose(x, (1, 0, 2)), kernel) + bias
    peepholes = ops.unstack(peepholes, recurrent_kernel.shape[-1] // recurrent_kernel.shape[0] - 1)

    def step(state, now):
        z, *keep = now
        keep = keep[0] if keep else None
        _, *new = peephole_step(z, *state, recurrent_kernel, peepholes, dropped)
        state = tuple(hold(keep, *pair) for pair in zip(new, state, strict=True))
        return state, state  # TensorFlow's scan requires as many outputs as states

    (h, c), (outputs, _) = ops.scan(step, (h, c), (z,) if mask is None else (z, ops.transpose(mask, (1, 0, 2))))
    return ops.transpose(outputs, (1, 0, 2)), h, c
