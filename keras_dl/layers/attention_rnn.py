"""A recurrent network that attends to a memory at each step, over whole sequences."""

import keras
from keras import ops, tree

from keras_dl.layers.attention.inputs import without_padding
from keras_dl.layers.recurrent_cell import state_sizes
from keras_dl.ops.scan import scan


@keras.saving.register_keras_serializable("keras_dl")
class AttentionRNN(keras.layers.Layer):
    """All steps of an `AttentionCell`: `keras.layers.RNN` around it, but the memory is projected once.

    A masked step keeps the states and repeats the output and the alignment before it, zeros at the beginning. Padding
    changes nothing, in sequence or memory, NaN included.

    Args:
        cell: an `AttentionCell`.
        return_sequences: bool, whether the output of each step is wanted, or the last alone. Defaults to True.
        return_state: bool, whether the states after the last step are wanted too. Defaults to False.
        return_alignments: bool, whether what each step attended to is wanted too. Defaults to False.
        **kwargs: `name`, `dtype`, as for every layer.

    Call arguments:
        sequence: float tensor `[B, T, D]`.
        memory: float tensor `[B, S, Dm]`.
        initial_state: the states of the cell within, as a list or nested as they are there; or all that
            `return_state=True` gave, to go on from there. Defaults to those that the cell has itself.
        mask: bool tensor `[B, T]`, False at padding; Keras' mask of `sequence` by default.
        memory_mask: bool tensor `[B, S]`, False at padding; Keras' mask of `memory` by default.
        training: bool, whether to drop anything.

    Returns:
        float tensor `[B, T, A]`, or `[B, A]` without `return_sequences`, with A the features of the output of the cell;
        if more is asked for a tuple `(output, alignments [B, T, S], *states)`, of which the last are
        `[*cell states, attention [B, A], alignment [B, S]]`.

    Raises:
        ValueError: if the cell is no `AttentionCell`, or shapes do not fit.

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
        shown = self._shown(output, ops.zeros_like(states[-1]))

        def step(states, slices):
            inputs, *valid = slices
            output, new = self.cell.step(inputs, states[1:], prepared, training)
            new = [self._shown(output, new[-1]), *new]
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
        given = tree.flatten(initial_state)
        everything = len(given) == len(state_sizes(self.cell.cell)) + 2
        states = self.cell.start(prepared, given[:-2] if everything else initial_state, training)
        return [ops.cast(state, self.cell.compute_dtype) for state in given] if everything else states

    def _keeps(self):
        return self.return_sequences or self.return_alignments

    def _shown(self, output, alignment):
        """What is kept of a step: the loop has one history."""
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
    for name, shape in (("sequence", sequence_shape), ("memory", memory_shape)):
        if len(shape) != 3:
            raise ValueError(f"Expected `{name}` of shape [B, steps, features]. Received: {tuple(shape)}")
    if mask is not None and len(mask.shape) != 2:
        raise ValueError(f"Expected `mask` of shape [B, T]. Received: {tuple(mask.shape)}")
