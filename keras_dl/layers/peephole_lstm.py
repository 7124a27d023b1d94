"""The LSTM whose gates see the cell state: a cell for the loops of Keras, and the layer over a whole sequence."""

import numbers

import keras
from keras import ops

from keras_dl.ops.recurrence import peephole_lstm


@keras.saving.register_keras_serializable("keras_dl")
class PeepholeLSTMCell(keras.layers.LSTMCell):
    """One step of an LSTM with peepholes; what `PeepholeLSTM` repeats, for `keras.layers.RNN` and `StackedRNNCells`.

    `i = s(z_i + p_i c')`, `f = s(z_f + p_f c')`, `c = f c' + i tanh(z_c)`, `o = s(z_o + p_o c)`, `h = o tanh(c)` with
    `z = x W + h' R + b`. `get_weights()` gives `W` (D, 4U), `R` (U, 4U), `b` (4U,), then the peepholes of `i`, `f`
    and `o`, (U,) each: the order of `tensorflow_addons.rnn.PeepholeLSTMCell`. The blocks of `W`, `R` and `b` are
    `i, f, c, o`.

    Args:
        units: int > 0, the size of the output and of the cell state.
        activation, recurrent_activation, use_bias, kernel_initializer, recurrent_initializer, bias_initializer,
            unit_forget_bias, the regularizers and constraints, seed: as in `keras.layers.LSTMCell`.
        dropout: float from 0 to below 1, the part of the inputs to drop; one mask for all steps and gates.
        recurrent_dropout: float from 0 to below 1, likewise of `h'` before `R`.
        coupled_gates: bool, whether `f = 1 - i`. The blocks are then `i, c, o`, (D, 3U), (U, 3U) and (3U,), and there
            is no peephole of `f`. Defaults to False.
        learn_initial_state: bool, whether the state before the first step is learned, where none is given: two more
            weights `h` and `c`, (U,) each, after the others. Defaults to False, zeros.
        peephole_initializer: initializer of the peepholes. Defaults to `"glorot_uniform"`.
        peephole_regularizer: regularizer of each peephole. Defaults to None.
        **kwargs: `name`, `dtype`, as for every layer.

    Call arguments:
        inputs: float tensor `[B, D]`.
        states: `[h, c]`, float tensors `[B, U]`.
        training: bool, whether to drop anything.

    Raises:
        ValueError: if `units` or a dropout is out of range.

    Example:

    >>> import keras
    >>> cells = [PeepholeLSTMCell(8), PeepholeLSTMCell(4, coupled_gates=True)]
    >>> keras.layers.RNN(cells)(keras.ops.ones((2, 5, 3))).shape
    TensorShape([2, 4])

    References: Gers et al. 2002, https://www.jmlr.org/papers/volume3/gers02a/gers02a.pdf; coupled gates: Greff et al.
    2017, https://arxiv.org/abs/1503.04069
    """

    def __init__(
        self,
        units,
        activation="tanh",
        recurrent_activation="sigmoid",
        *,
        dropout=0.0,
        recurrent_dropout=0.0,
        coupled_gates=False,
        learn_initial_state=False,
        peephole_initializer="glorot_uniform",
        peephole_regularizer=None,
        **kwargs,
    ):
        if not isinstance(units, numbers.Integral) or units < 1:
            raise ValueError(f"`units` must be an integer of at least 1. Received: {units!r}")
        for name, rate in (("dropout", dropout), ("recurrent_dropout", recurrent_dropout)):
            if not 0 <= rate < 1:
                raise ValueError(f"`{name}` must be from 0 to below 1. Received: {rate!r}")
        # Keras' cell would take recurrent dropout as a request for four masks and split kernels.
        super().__init__(int(units), activation, recurrent_activation, dropout=dropout, **kwargs)
        self.recurrent_dropout = recurrent_dropout
        self.coupled_gates = coupled_gates
        self.learn_initial_state = learn_initial_state
        self.peephole_initializer = keras.initializers.get(peephole_initializer)
        self.peephole_regularizer = keras.regularizers.get(peephole_regularizer)

    def build(self, input_shape):
        blocks, vector = 3 if self.coupled_gates else 4, (self.units,)
        self.kernel = self._weight("kernel", (input_shape[-1], blocks * self.units))
        self.recurrent_kernel = self._weight("recurrent_kernel", (self.units, blocks * self.units), "recurrent")
        forgetting = self._bias_with_forgetting if self.unit_forget_bias and not self.coupled_gates else None
        self.bias = self._weight("bias", (blocks * self.units,), initializer=forgetting) if self.use_bias else None
        gates = ("input", "output") if self.coupled_gates else ("input", "forget", "output")
        self.peepholes = [self._weight(f"{gate}_gate_peephole", vector, "peephole") for gate in gates]
        learned = "hc" if self.learn_initial_state else ""
        self.initial_state = [self.add_weight(vector, "zeros", name=f"initial_{name}") for name in learned]
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: input_shape[-1]})

    def _weight(self, name, shape, kind=None, initializer=None):
        kind = kind or name
        return self.add_weight(
            shape=shape,
            name=name,
            initializer=initializer or getattr(self, f"{kind}_initializer"),
            regularizer=getattr(self, f"{kind}_regularizer"),
            constraint=getattr(self, f"{kind}_constraint", None),
        )

    def _bias_with_forgetting(self, _, dtype=None):
        """The forget gate starts open, at 1."""
        before, after = (self.bias_initializer((n * self.units,), dtype=dtype) for n in (1, 2))
        return ops.concatenate([before, ops.ones((self.units,), dtype=dtype), after])

    def call(self, inputs, states, training=False):
        h, c = states
        if training and self.dropout:
            inputs = inputs * self.get_dropout_mask(inputs)
        if training and self.recurrent_dropout:
            h = h * self.get_recurrent_dropout_mask(h)
        z = ops.matmul(inputs, self.kernel) + ops.matmul(h, self.recurrent_kernel)
        z = z if self.bias is None else z + self.bias
        i, *f, new, o = ops.split(z, len(self.peepholes) + 1, axis=-1)
        i = self.recurrent_activation(i + self.peepholes[0] * c)
        f = self.recurrent_activation(f[0] + self.peepholes[1] * c) if f else 1 - i
        c = f * c + i * self.activation(new)
        o = self.recurrent_activation(o + self.peepholes[-1] * c)
        h = o * self.activation(c)
        return h, [h, c]

    def get_initial_state(self, batch_size=None):
        if not self.learn_initial_state:
            return super().get_initial_state(batch_size)
        states = (ops.cast(state, self.compute_dtype) for state in self.initial_state)
        return [ops.broadcast_to(state, (batch_size, self.units)) for state in states]

    def get_config(self):
        return {
            **super().get_config(),
            "coupled_gates": self.coupled_gates,
            "learn_initial_state": self.learn_initial_state,
            "peephole_initializer": keras.initializers.serialize(self.peephole_initializer),
            "peephole_regularizer": keras.regularizers.serialize(self.peephole_regularizer),
        }


@keras.saving.register_keras_serializable("keras_dl")
class PeepholeLSTM(keras.layers.RNN):
    """LSTM with peepholes over sequences: `keras.layers.RNN(PeepholeLSTMCell(...))`, computed as a whole.

    See `keras_dl.ops.recurrence.peephole_lstm`. With activations other than tanh and sigmoid, or `unroll=True`, it is
    the loop of Keras over the cell. Weights and their order are the cell's.

    Padding changes nothing, NaN included: a masked step keeps the state and repeats the output before it.

    Args:
        units: int > 0, the size of the output and of the cell state.
        return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask: as in
            `keras.layers.RNN`. Default to False.
        activity_regularizer: regularizer of the output. Defaults to None.
        **kwargs: `name`, `trainable`, `dtype`, as for every layer, and the arguments of `PeepholeLSTMCell`.

    Call arguments:
        sequences: float tensor `[B, T, D]`.
        initial_state: `[h, c]`, float tensors `[B, U]`; by default the learned one, or zeros.
        mask: bool tensor `[B, T]`, False at padding; Keras' mask of `sequences` by default.
        training: bool, whether to drop anything.

    Output shape:
        `[B, U]`, or `[B, T, U]` with `return_sequences=True`; with `return_state=True` also `h` and `c`, `[B, U]`.

    Raises:
        ValueError: if an argument is out of range, or `stateful` meets `learn_initial_state`.

    Example:

    >>> import keras
    >>> sequences = keras.ops.ones((2, 5, 3))
    >>> PeepholeLSTM(4, return_sequences=True)(sequences).shape
    TensorShape([2, 5, 4])
    >>> both = keras.layers.Bidirectional(PeepholeLSTM(4, recurrent_initializer="orthogonal", coupled_gates=True))
    >>> both(sequences).shape
    TensorShape([2, 8])

    What is often named with it, Keras has itself: the ReLU network that starts as the identity (Le et al. 2015,
    https://arxiv.org/abs/1504.00941), `SimpleRNN(4, activation="relu", recurrent_initializer="identity")`, and clipping
    of gradients, `Adam(clipnorm=1.0)` and `Adam(clipvalue=0.5)`.

    Reference: Gers et al. 2002, https://www.jmlr.org/papers/volume3/gers02a/gers02a.pdf
    """

    def __init__(
        self,
        units,
        return_sequences=False,
        return_state=False,
        go_backwards=False,
        stateful=False,
        unroll=False,
        zero_output_for_mask=False,
        activity_regularizer=None,
        name=None,
        trainable=True,
        dtype=None,
        **kwargs,
    ):
        if stateful and kwargs.get("learn_initial_state"):
            raise ValueError(
                "`learn_initial_state` must be False where `stateful` carries the state from batch to batch. Received: "
                "both True"
            )
        cell = PeepholeLSTMCell(units, name="peephole_lstm_cell", trainable=trainable, dtype=dtype, **kwargs)
        loop = return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask
        own = {"name": name, "trainable": trainable, "dtype": dtype}
        super().__init__(cell, *loop, activity_regularizer=activity_regularizer, **own)
        self.input_spec = keras.layers.InputSpec(ndim=3)

    units = property(lambda self: self.cell.units)

    def build(self, sequences_shape, initial_state_shape=None):
        super().build(sequences_shape, initial_state_shape)
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: sequences_shape[-1]})

    def inner_loop(self, sequences, initial_state, mask, training=False):
        mask, cell = mask[0] if keras.tree.is_nested(mask) else mask, self.cell
        activations = cell.activation, cell.recurrent_activation
        if self.unroll or activations != (keras.activations.tanh, keras.activations.sigmoid):
            if mask is not None:  # the loop of Keras computes padded steps too, and NaN there would reach the gradient
                sequences = ops.where(mask[..., None], sequences, ops.zeros_like(sequences))
            return super().inner_loop(sequences, initial_state, mask, training)
        recurrent_mask = None
        if training and cell.dropout:
            sequences = sequences * cell.get_dropout_mask(sequences[:, 0])[:, None]
        if training and cell.recurrent_dropout:
            recurrent_mask = cell.get_recurrent_dropout_mask(initial_state[0])
        outputs, *state = peephole_lstm(
            sequences,
            initial_state,
            cell.kernel.value,
            cell.recurrent_kernel.value,
            None if cell.bias is None else cell.bias.value,
            [peephole.value for peephole in cell.peepholes],
            mask=mask,
            recurrent_dropout_mask=recurrent_mask,
            go_backwards=self.go_backwards,
            zero_output_for_mask=self.zero_output_for_mask,
        )
        return outputs[:, -1], outputs, state

    def get_config(self):
        config, cell = super().get_config(), self.cell.get_config()
        del config["cell"]
        return {**cell, **config, "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer)}

    @classmethod
    def from_config(cls, config):
        return cls(**config)
