"""Layers reject invalid counts with the same message."""

import keras
import pytest

from keras_dl.layers import (
    AdditiveAttention,
    AttentionCell,
    AttentionPooling,
    CTCOutput,
    DotAttention,
    ESNCell,
    LocationAttention,
    PeepholeLSTMCell,
    RidgeReadout,
)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("units", AdditiveAttention),
        ("num_heads", lambda value: DotAttention(num_heads=value)),
        ("units", AttentionPooling),
        ("max_length", LocationAttention),
        ("attention_units", lambda value: AttentionCell(keras.layers.GRUCell(2), DotAttention(), value)),
        ("units", PeepholeLSTMCell),
        ("units", RidgeReadout),
        ("units", ESNCell),
        ("feedback", lambda value: ESNCell(20, feedback=value)),
        ("blank_index", lambda value: CTCOutput(["a", "b"], value)),
    ],
)
@pytest.mark.parametrize("value", [True, 1.0, -1])
def test_layers_reject_invalid_counts(name, make, value):
    with pytest.raises(ValueError, match=f"`{name}` must be an integer of at least [01]. Received: {value}"):
        make(value)
