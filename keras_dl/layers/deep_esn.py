"""Stacked echo state networks."""

import keras
from keras import ops

from keras_dl.layers.esn_cell import ESNCell
from keras_dl.layers.reservoir import Reservoir
from keras_dl.ops.precision import wide


@keras.saving.register_keras_serializable("keras_dl")
class DeepESNCell(keras.layers.Layer):
    """A stack of reservoirs: each is driven by the states of the previous one, and the output contains all states.

    Args:
        cells: list of `ESNCell`, the lowest first.
        **kwargs: base layer keyword arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: float tensor `[B, D]`.
        states: list of float tensors `[B, N_i]`, one per cell.
        training: bool, whether to add noise.

    Returns:
        `(h, states)`, where h is `[B, N_1 + N_2 + ...]`.

    Raises:
        ValueError: if there are no cells, a cell occurs twice, or a cell has feedback or a different dtype.

    Example:

    >>> import numpy as np
    >>> cell = DeepESNCell([ESNCell(20, seed=1), ESNCell(30, seed=2)])
    >>> output, states = cell(np.ones((2, 3)), cell.get_initial_state(batch_size=2))
    >>> output.shape, len(states)
    (TensorShape([2, 50]), 2)

    Reference: Gallicchio, Micheli and Pedrelli 2017, "Deep reservoir computing: a critical experimental analysis".
    """

    def __init__(self, cells, **kwargs):
        super().__init__(**{"autocast": False, **kwargs})
        if not cells or not all(isinstance(cell, ESNCell) for cell in cells):
            raise ValueError(f"`cells` must be a list of at least one ESNCell. Received: {cells!r}")
        if len({id(cell) for cell in cells}) < len(cells) or any(cell.feedback for cell in cells):
            raise ValueError(f"`cells` must be distinct and without feedback. Received: {cells!r}")
        if {cell.variable_dtype for cell in cells} != {self.variable_dtype}:
            raise ValueError(
                f"Expected cells with dtype {self.variable_dtype}. Received: {[c.variable_dtype for c in cells]}"
            )
        self.cells = list(cells)
        self.state_size = [cell.units for cell in cells]
        self.output_size = sum(self.state_size)

    def build(self, input_shape):
        features = input_shape[-1]
        for cell in self.cells:
            if not cell.built:  # cells are already built after loading
                cell.build((None, features))
                cell.built = True
            features = cell.units

    @property
    def compute_dtype(self):
        return wide(super().compute_dtype)

    def call(self, inputs, states, training=False):
        outputs, after = [], []
        for cell, state in zip(self.cells, states, strict=True):
            inputs, new = cell.call(inputs, [state], training)  # not cell(): the stack sets the precision
            outputs.append(inputs)
            after.extend(new)
        return ops.concatenate(outputs, -1), after

    def run(self, sequences, states, mask=None, training=False, keep=True):
        """Computes all steps, one reservoir after the other; see `ESNCell.run`."""
        outputs, last = [], []
        for cell, state in zip(self.cells, states, strict=True):
            inner = keep or cell is not self.cells[-1]
            sequences, state, _ = cell.run(sequences, [state], mask, training, inner)
            outputs.append(sequences)
            last.append(state)
        return ops.concatenate(outputs, -1) if keep else None, ops.concatenate(last, -1), last

    def get_initial_state(self, batch_size=None):
        return [state for cell in self.cells for state in cell.get_initial_state(batch_size)]

    def get_config(self):
        return {**super().get_config(), "cells": [keras.saving.serialize_keras_object(cell) for cell in self.cells]}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "cells": [keras.saving.deserialize_keras_object(cell) for cell in config["cells"]]})


@keras.saving.register_keras_serializable("keras_dl")
class DeepESN(Reservoir):
    """A stack of echo state networks whose output contains the states of all of them.

    Args:
        cells: list of `ESNCell`, the lowest first.
        **kwargs: `return_sequences`, `return_state`, `go_backwards`, `stateful`, `zero_output_for_mask`, `name`,
            `dtype`, as in `keras.layers.RNN`; `dtype` defaults to that of the lowest cell.

    Call arguments:
        sequences: float tensor `[B, T, D]`.
        initial_state: list of float tensors `[B, N_i]`, one per cell. Defaults to zeros.
        mask: bool tensor `[B, T]`, False at padding. Defaults to the Keras mask of `sequences`.
        training: bool, whether to add noise.

    Output shape:
        `[B, N_1 + N_2 + ...]`, or `[B, T, N_1 + N_2 + ...]` with `return_sequences`.

    Raises:
        ValueError: if there are no cells, a cell occurs twice, or a cell has feedback or a different dtype.

    Example:

    >>> import numpy as np
    >>> cells = [ESNCell(20, leak_rate=0.9, seed=1), ESNCell(30, leak_rate=0.3, seed=2)]
    >>> DeepESN(cells, return_sequences=True)(np.ones((2, 7, 3))).shape
    TensorShape([2, 7, 50])

    Reference: Gallicchio, Micheli and Pedrelli 2017, "Deep reservoir computing: a critical experimental analysis".
    """

    def __init__(self, cells, **kwargs):
        kwargs.setdefault("dtype", cells[0].dtype_policy if cells and isinstance(cells[0], ESNCell) else None)
        super().__init__(DeepESNCell(cells, dtype=kwargs["dtype"], name="deep_esn_cell"), **kwargs)

    def get_config(self):
        config = super().get_config()
        del config["cell"]
        return {**config, "cells": self.cell.get_config()["cells"]}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "cells": [keras.saving.deserialize_keras_object(cell) for cell in config["cells"]]})
