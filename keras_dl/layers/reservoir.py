"""Base class of the echo state network layers: recurrent layers that compute a whole sequence at once."""

import keras
from keras import ops


class Reservoir(keras.layers.RNN):
    """A recurrent layer whose cell has a `run` method that computes all steps in one call; see `ESNCell.run`.

    Everything else (states, masks, direction, `stateful`, wrappers) works as in `keras.layers.RNN`.

    Example:

    >>> import numpy as np
    >>> from keras_dl.layers import ESNCell
    >>> Reservoir(ESNCell(20, seed=1))(np.ones((2, 7, 3))).shape
    TensorShape([2, 20])
    """

    def __init__(self, cell, **kwargs):
        super().__init__(cell, **kwargs)
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def build(self, sequences_shape, initial_state_shape=None):
        super().build(sequences_shape, initial_state_shape)
        self.input_spec = keras.layers.InputSpec(ndim=3, axes={-1: sequences_shape[-1]})

    def inner_loop(self, sequences, initial_state, mask, training=False):
        mask = mask[0] if isinstance(mask, tuple | list) else mask
        if self.go_backwards:
            sequences, mask = ops.flip(sequences, 1), None if mask is None else ops.flip(mask, 1)
        keep = self.return_sequences
        outputs, output, states = self.cell.run(sequences, initial_state, mask, training, keep)
        if mask is not None:
            # As in Keras, a masked step repeats the previous output, zeros at the start.
            shown = mask if self.zero_output_for_mask else ops.cumsum(ops.cast(mask, "int32"), 1) > 0
            output = ops.where(shown[:, -1:], output, ops.zeros_like(output))
            if keep:
                outputs = ops.where(ops.expand_dims(shown, -1), outputs, ops.zeros_like(outputs))
        return output, outputs if keep else ops.expand_dims(output, 1), states
