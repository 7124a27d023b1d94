"""Recurrent cells of Keras, including stacks, as functions of a flat list of states."""

import inspect

import keras
from keras import ops, tree

from keras_dl.compat.keras import DropoutRNNCell


def require_cell(cell):
    """Raises an error unless an argument is a recurrent cell, such as LSTMCell; a layer such as LSTM is not a cell.

    Args:
        cell: value of the argument.

    Raises:
        ValueError: if it is not a cell.

    Example:

    >>> import keras
    >>> require_cell(keras.layers.LSTMCell)
    Traceback (most recent call last):
    ...
    ValueError: `cell` must be a recurrent cell, such as keras.layers.LSTMCell(8). Received: the class LSTMCell
    """
    known = callable(cell) and hasattr(cell, "state_size") and not isinstance(cell, keras.layers.RNN)
    if not known or inspect.isclass(cell):
        received = f"the class {cell.__name__}" if inspect.isclass(cell) else repr(cell)
        raise ValueError(f"`cell` must be a recurrent cell, such as keras.layers.LSTMCell(8). Received: {received}")


def cells_of(cell):
    """Returns the cells of a stack, or a list of the single cell.

    Args:
        cell: a recurrent cell.

    Example:

    >>> import keras
    >>> one = keras.layers.GRUCell(3)
    >>> cells_of(one) == cells_of(keras.layers.StackedRNNCells([one])) == [one]
    True
    """
    return getattr(cell, "cells", [cell])


def state_sizes(cell):
    """Returns the number of features of each state as a flat list.

    Args:
        cell: a recurrent cell.

    Example:

    >>> import keras
    >>> state_sizes(keras.layers.StackedRNNCells([keras.layers.LSTMCell(3), keras.layers.GRUCell(4)]))
    [3, 3, 4]
    """
    return tree.flatten(cell.state_size)


def output_size(cell):
    """Returns the number of features of the output.

    Args:
        cell: a recurrent cell.

    Example:

    >>> import keras
    >>> output_size(keras.layers.StackedRNNCells([keras.layers.LSTMCell(3), keras.layers.GRUCell(4)]))
    4
    """
    size = getattr(cell, "output_size", None)
    return state_sizes(cell)[0] if size is None else size


def first_states(cell, zeros, states=None):
    """Returns the initial states of a cell as a flat list.

    Args:
        cell: a recurrent cell.
        zeros: float tensor `[B, 1]` of zeros, possibly symbolic, for the batch size.
        states: states, flat or nested as in the cell. Defaults to None: the initial states of the cell, which must be
            zeros if `zeros` is symbolic.

    Returns:
        list of tensors `[B, features]`.

    Raises:
        ValueError: if the states have the wrong sizes, or if they are None with symbolic `zeros` and the cell learns
            its initial state.

    Example:

    >>> [state.shape for state in first_states(keras.layers.LSTMCell(3), ops.zeros((2, 1)))]
    [TensorShape([2, 3]), TensorShape([2, 3])]
    """
    sizes, symbolic = state_sizes(cell), isinstance(zeros, keras.KerasTensor)
    if states is None and not symbolic and hasattr(cell, "get_initial_state"):
        states = cell.get_initial_state(batch_size=ops.shape(zeros)[0])
    elif states is None and any(getattr(each, "learn_initial_state", False) for each in cells_of(cell)):
        raise ValueError(
            "Expected `cell_states`, or AttentionRNN, for a cell that learns its initial state. Received: None"
        )
    states = [ops.repeat(zeros, size, axis=-1) for size in sizes] if states is None else tree.flatten(states)
    if [state.shape[-1] for state in states] != sizes:
        received = [tuple(state.shape) for state in states]
        raise ValueError(f"Expected states of the cell with {sizes} features. Received: shapes {received}")
    return states


def run_cell(cell, inputs, states, training=False):
    """Computes one step of a cell.

    Args:
        cell: a recurrent cell.
        inputs: float tensor `[B, D]`.
        states: list of float tensors `[B, size]`, in the order of `state_sizes`.
        training: bool, whether to apply dropout.

    Returns:
        `(output [B, N], states)`, in the dtype of the inputs.

    Example:

    >>> import keras
    >>> ones = keras.ops.ones((2, 3))
    >>> output, states = run_cell(keras.layers.LSTMCell(3), ones, [ones, ones])
    >>> output.shape, len(states)
    (TensorShape([2, 3]), 2)
    """
    options = {"training": training} if getattr(cell, "_call_has_training_arg", False) else {}
    packed = tree.pack_sequence_as(cell.state_size, list(states))
    output, states = cell(inputs, packed if tree.is_nested(packed) else [packed], **options)
    output, *states = (ops.cast(x, inputs.dtype) for x in (output, *tree.flatten(states)))
    return output, states


def draw_dropout(cell, rows, features):
    """Draws the dropout masks of a cell, one for all steps; Keras cells must not draw them inside the loop.

    Args:
        cell: a recurrent cell.
        rows: tensor `[B, 1]` of zeros.
        features: int, D of the inputs.

    Example:

    >>> import keras
    >>> cell = keras.layers.GRUCell(3, dropout=0.5)
    >>> draw_dropout(cell, keras.ops.zeros((2, 1)), features=4)
    >>> cell.get_dropout_mask(None).shape
    TensorShape([2, 4])
    """
    for each in cells_of(cell):
        if isinstance(each, DropoutRNNCell):
            each.get_dropout_mask(ops.repeat(rows, features, axis=-1))
            each.get_recurrent_dropout_mask(ops.repeat(rows, state_sizes(each)[0], axis=-1))
        features = output_size(each)


def forget_dropout(cell):
    """Discards the dropout masks of a cell.

    Args:
        cell: a recurrent cell.

    Example:

    >>> import keras
    >>> forget_dropout(keras.layers.GRUCell(3, dropout=0.5))
    """
    for each in cells_of(cell):
        if isinstance(each, DropoutRNNCell):
            each.reset_dropout_mask()
            each.reset_recurrent_dropout_mask()
