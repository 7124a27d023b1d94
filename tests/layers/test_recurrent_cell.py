"""Tests of recurrent cells as functions of flat states, alone and stacked."""

import keras
import numpy as np
import pytest

from keras_dl.layers import ESNCell, PeepholeLSTMCell
from keras_dl.layers.recurrent_cell import (
    draw_dropout,
    first_states,
    forget_dropout,
    output_size,
    run_cell,
    state_sizes,
)

X = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
CELLS = {
    "lstm": (lambda: keras.layers.LSTMCell(4), [4, 4], 4),
    "gru": (lambda: keras.layers.GRUCell(4), [4], 4),
    "esn": (lambda: ESNCell(4, fan_in=2), [4], 4),
    "stack": (lambda: keras.layers.StackedRNNCells([PeepholeLSTMCell(4), keras.layers.GRUCell(5)]), [4, 4, 5], 5),
    "stack of one": (lambda: keras.layers.StackedRNNCells([keras.layers.LSTMCell(4)]), [4, 4], 4),
}


@pytest.mark.parametrize("name", CELLS)
def test_matches_the_keras_loop(name):
    make, sizes, size = CELLS[name]
    cell = make()
    assert state_sizes(cell) == sizes and output_size(cell) == size
    states = [np.zeros((2, each), "float32") for each in sizes]
    for _ in range(2):
        output, states = run_cell(cell, keras.ops.convert_to_tensor(X), states)
    assert [state.shape for state in states] == [(2, each) for each in sizes]
    np.testing.assert_allclose(output, keras.layers.RNN(cell)(np.stack([X, X], axis=1)), atol=1e-6)


def test_dropout_masks_are_drawn_for_each_cell_and_discarded():
    cells = [PeepholeLSTMCell(4, dropout=0.5), PeepholeLSTMCell(5, dropout=0.5, recurrent_dropout=0.5)]
    stack = keras.layers.StackedRNNCells([*cells, ESNCell(4, fan_in=2)])
    draw_dropout(stack, keras.ops.zeros((2, 1)), features=3)
    assert cells[0]._dropout_mask.shape == (2, 3) and cells[0]._recurrent_dropout_mask is None
    assert cells[1]._dropout_mask.shape == (2, 4) and cells[1]._recurrent_dropout_mask.shape == (2, 5)
    forget_dropout(stack)
    assert cells[0]._dropout_mask is cells[1]._dropout_mask is cells[1]._recurrent_dropout_mask is None


def test_first_states_may_be_given_or_default():
    stack, zeros = keras.layers.StackedRNNCells([keras.layers.LSTMCell(3), keras.layers.GRUCell(2)]), np.zeros((4, 1))
    assert [state.shape for state in first_states(stack, zeros)] == [(4, 3), (4, 3), (4, 2)]
    given = [np.ones((4, size)) for size in (3, 3, 2)]
    assert all(
        one is other for one, other in zip(first_states(stack, zeros, [given[:2], given[2]]), given, strict=True)
    )
    with pytest.raises(ValueError, match=r"Expected states of the cell with \[3, 3, 2\] features"):
        first_states(stack, zeros, given[:2])
    learned = PeepholeLSTMCell(2, learn_initial_state=True)
    with pytest.raises(ValueError, match="for a cell that learns its initial state"):
        first_states(learned, keras.KerasTensor((None, 1)))
