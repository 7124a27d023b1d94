"""A recurrent layer that attends to a memory at each step."""

import keras
from keras import ops, tree

from keras_dl.layers.padding import without_padding
from keras_dl.layers.recurrent_cell import state_sizes
from keras_dl.ops.checks import require_rank
from keras_dl.ops.scan import scan


@keras.saving.register_keras_serializable("keras_dl")
class AttentionRNN(keras.layers.Layer):
    """Runs an `AttentionCell` over sequences, like `keras.layers.RNN`, but projects the memory only once.

    A masked step keeps the states and repeats the previous output and alignment, zeros at the start. Padding of the
    sequence or the memory never changes a result, even if it contains NaN.

    Args:
        cell: an `AttentionCell`.
        return_sequences: bool, whether to return the outputs of all steps or only the last. Defaults to True.
        return_state: bool, whether to also return the final states. Defaults to False.
        return_alignments: bool, whether to also return the alignment of each step. Defaults to False.
        **kwargs: base layer keyword arguments, such as `name` and `dtype`.

    Call arguments:
        sequence: float tensor `[B, T, D]`.
        memory: float tensor `[B, S, Dm]`.
        initial_state: states of the inner cell, as a list or nested as in the cell; or all states returned with
            `return_state=True`, to continue a sequence. Defaults to the initial states of the cell.
        mask: bool tensor `[B, T]`, False at padding. Defaults to the Keras mask of `sequence`.
        memory_mask: bool tensor `[B, S]`, False at padding. Defaults to the Keras mask of `memory`.
        training: bool, whether to apply dropout.

    Returns:
        float tensor `[B, T, A]`, or `[B, A]` without `return_sequences`, with A the size of the output of the cell.
        With alignments or states, a tuple `(output, alignments [B, T, S], *states)`, where the states are
        `[*cell states, attention [B, A], alignment [B, S]]`.

    Raises:
        ValueError: if the cell is not an `AttentionCell`, or shapes do not match.

    Example:

    >>> import keras
    >>> from keras_dl.layers import AttentionCell, DotAttention
    >>> layer = AttentionRNN(AttentionCell(keras.layers.LSTMCell(5), DotAttention()), return_alignments=True)
    >>> output, alignments = layer(keras.ops.ones((2, 4, 3)), keras.ops.ones((2, 7, 5)))
    >>> output.shape, alignments.shape
    (TensorShape([2, 4, 5]), TensorShape([2, 4, 7]))

    Reference: Luong et al. 2015, https://arxiv.org/abs/1508.04025
    """

    def __init__(self, cell, return_sequences=True, return_state=False, return_alignments=False, **kwargs):
        super().__init__(**kwargs)
        if not (hasattr(cell, "prepare") and hasattr(cell, "start") and hasattr(cell, "step")):
            raise ValueError(f"`cell` must be an AttentionCell. Received: {cell!r}")
        self.cell = cell
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.return_alignments = return_alignments
        self.supports_masking = True

    def build(self, sequence_shape, memory_shape):
        _require_ranks(sequence_shape, memory_shape)
        if not self.cell.built:
            self.cell.build((sequence_shape[0], sequence_shape[-1]), memory_shape)

    def call(self, sequence, memory, initial_state=None, mask=None, memory_mask=None, training=None):
        mask = getattr(sequence, "_keras_mask", None) if mask is None else mask
        _require_ranks(sequence.shape, memory.shape, mask)
        prepared = self.cell.prepare(memory, memory_mask)
        states = self._start(prepared, initial_state, training)
        width = self.cell.output_size
        output = ops.repeat(ops.zeros_like(prepared["values"][:, 0, :1]), width, axis=-1)
        shown = self._joined(output, ops.zeros_like(states[-1]))

        def step(states, slices):
            inputs, *valid = slices
            output, new = self.cell.step(inputs, states[1:], prepared, training)
            new = [self._joined(output, new[-1]), *new]
            return [ops.where(valid[0], *pair) for pair in zip(new, states, strict=True)] if valid else new

        slices = [_time_major(without_padding(sequence, mask))]
        if mask is not None:
            slices.append(_time_major(ops.cast(mask, "bool")[..., None]))
        (last, *states), history = scan(step, [shown, *states], slices, keep=self._keeps())
        self.cell.reset_dropout_mask()
        history = None if history is None else _time_major(history)
        output = history[..., :width] if self.return_sequences else last[..., :width]
        results = [output, history[..., width:]] if self.return_alignments else [output]
        results = [ops.cast(x, self.compute_dtype) for x in (results + states if self.return_state else results)]
        return tuple(results) if len(results) > 1 else results[0]

    def _start(self, prepared, initial_state, training):
        flat = tree.flatten(initial_state)
        complete = len(flat) == len(state_sizes(self.cell.cell)) + 2
        states = self.cell.start(prepared, flat[:-2] if complete else initial_state, training)
        return [ops.cast(state, self.cell.compute_dtype) for state in flat] if complete else states

    def _keeps(self):
        return self.return_sequences or self.return_alignments

    def _joined(self, output, alignment):
        """Joins output and alignment, because the loop keeps a single history."""
        return ops.concatenate([output, alignment], axis=-1) if self.return_alignments else output

    def compute_mask(self, sequence, previous_mask=None):
        return previous_mask if self.return_sequences else None

    def compute_output_shape(self, sequence_shape, memory_shape):
        batch, time, steps = *sequence_shape[:2], memory_shape[1]
        shapes = [(batch, time, self.cell.output_size) if self.return_sequences else (batch, self.cell.output_size)]
        if self.return_alignments:
            shapes.append((batch, time, steps))
        if self.return_state:
            sizes = [*state_sizes(self.cell.cell), self.cell.attention_size, steps]
            shapes += [(batch, size) for size in sizes]
        return tuple(shapes) if len(shapes) > 1 else shapes[0]

    def compute_output_spec(self, sequence, memory, initial_state=None, mask=None, memory_mask=None, training=None):
        _require_ranks(sequence.shape, memory.shape, mask)
        shapes = self.compute_output_shape(sequence.shape, memory.shape)
        if not (self.return_alignments or self.return_state):
            return keras.KerasTensor(shapes, self.compute_dtype)
        return tuple(keras.KerasTensor(shape, self.compute_dtype) for shape in shapes)

    def get_config(self):
        return {
            **super().get_config(),
            "cell": keras.saving.serialize_keras_object(self.cell),
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "return_alignments": self.return_alignments,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "cell": keras.saving.deserialize_keras_object(config["cell"])})


def _time_major(x):
    return ops.swapaxes(x, 0, 1)


def _require_ranks(sequence_shape, memory_shape, mask=None):
    require_rank("sequence", sequence_shape, "[B, T, features]")
    require_rank("memory", memory_shape, "[B, S, features]")
    require_rank("mask", getattr(mask, "shape", None), "[B, T]")
