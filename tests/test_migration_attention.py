"""Tests of the migration of attention with imitations of the mechanisms of TensorFlow Addons."""

import numpy as np
import pytest

from keras_dl.layers import AdditiveAttention, GeneralAttention, MonotonicAttention
from keras_dl.migration import convert_layer

from .eager import eager_functions  # noqa: F401
from .test_migration import Imitation, drawn


def mechanism(kind, shapes, **config):
    monotonic = {"sigmoid_noise": 0.5, "score_bias_init": -1.0, "mode": "parallel"} if "Monotonic" in kind else {}
    config = {"name": "memory", "dtype": "float32", "units": 4, "memory": None, **monotonic, **config}
    return Imitation(kind, config, drawn(*shapes))


QUERY_AND_MEMORY = (6, 4), (5, 4)
CASES = [
    ("BahdanauAttention", [(4,), *QUERY_AND_MEMORY], {"normalize": False}, AdditiveAttention),
    ("BahdanauAttention", [(4,), (), (4,), *QUERY_AND_MEMORY], {"normalize": True}, AdditiveAttention),
    ("LuongAttention", [(5, 4)], {"scale": False}, GeneralAttention),
    ("LuongAttention", [(), (5, 4)], {"scale": True}, GeneralAttention),
    ("BahdanauMonotonicAttention", [(4,), (), *QUERY_AND_MEMORY], {"normalize": False}, MonotonicAttention),
    ("BahdanauMonotonicAttention", [(4,), (), (), (4,), *QUERY_AND_MEMORY], {"normalize": True}, MonotonicAttention),
    ("LuongMonotonicAttention", [(), (5, 4)], {"scale": False}, MonotonicAttention),
    ("LuongMonotonicAttention", [(), (), (5, 4)], {"scale": True}, MonotonicAttention),
]


@pytest.mark.parametrize(("kind", "shapes", "config", "cls"), CASES)
def test_converts_mechanisms_to_layers(kind, shapes, config, cls):
    old = mechanism(kind, shapes, **config)
    new = convert_layer(old)
    assert type(new) is cls and new.name == "memory"
    assert sorted(map(np.sum, new.get_weights())) == sorted(map(np.sum, old.weights))
    query, memory = np.ones((2, 3, 6 if "Bahdanau" in kind else 4)), np.ones((2, 7, 5))
    assert new(query, memory).shape == (2, 3, 5)
    if "Monotonic" in kind:
        assert (new.noise, new.mode, new.score_bias.path) == (0.5, "parallel", "memory/score_bias")
        biased = old.weights[1 if "Bahdanau" in kind else int(config["scale"])]
        assert new.get_weights()[0] == biased


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (mechanism("BahdanauAttention", [(4,), (5, 4)], normalize=False), "has been called.* Received: 2 weights"),
        (mechanism("LuongAttention", [(5, 4)], scale=False, probability_fn="hardmax"), "softmax .* Received: 'hard"),
    ],
)  # fmt: skip
def test_an_unsupported_mechanism_raises_an_error(layer, message):
    with pytest.raises(ValueError, match=message):
        convert_layer(layer)


def test_a_wrapper_with_custom_functions_raises_an_error():
    attention = mechanism("LuongAttention", [(5, 4)], scale=False)
    parts = {"_cell_input_fn": lambda x, attention: x, "_attention_fn": np.sum, "_attention_layers": None}
    wrapper = Imitation("AttentionWrapper", {"name": "decoder"}, _attention_mechanisms=[attention], **parts)
    with pytest.raises(
        ValueError, match="Expected one mechanism.* Received: 'decoder' of type AttentionWrapper with 1 mech"
    ):
        convert_layer(wrapper)
