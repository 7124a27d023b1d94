"""Tests of migration with imitations of the layers, attention and models of TensorFlow Addons and Keras 2."""

import keras
import numpy as np
import pytest

from keras_dl.layers import ESN, AdditiveAttention, GeneralAttention, MonotonicAttention, PeepholeLSTM, PeepholeLSTMCell
from keras_dl.migration import convert_layer, convert_model

from .eager import eager_functions  # noqa: F401

GENERATOR = np.random.default_rng(0)


class Imitation:
    """A layer of Keras 2 as `convert_layer` sees it, with the given class name."""

    def __new__(cls, kind, config, weights=(), shape=None, **attributes):
        layer = object.__new__(type(kind, (Imitation,), {}))
        layer.config, layer.weights, layer.shape, layer.name = config, list(weights), shape, config.get("name", "layer")
        vars(layer).update(attributes)
        return layer

    def get_config(self):
        return self.config

    def get_weights(self):
        return self.weights

    def get_build_config(self):
        return self.shape and {"input_shape": self.shape}


def drawn(*shapes):
    return [GENERATOR.normal(0, 0.5, shape).astype("float32") for shape in shapes]


def initializer(name):
    return {"module": "keras.initializers", "class_name": name, "config": {}, "registered_name": None}


def dense(name="scores", features=3, units=2):
    config = {"name": name, "trainable": True, "dtype": "float32", "units": units, "activation": "linear"}
    config |= {"kernel_initializer": initializer("GlorotUniform"), "batch_input_shape": (None, features)}
    return Imitation("Dense", config, drawn((features, units), (units,)), (None, features))


def peephole_cell(units=5, features=4):
    config = {"name": "cell", "units": units, "dropout": 0.0, "implementation": 2, "dtype": "float32"}
    config |= {"kernel_initializer": initializer("GlorotUniform"), "recurrent_initializer": initializer("Orthogonal")}
    shapes = [(features, 4 * units), (units, 4 * units), (4 * units,), *[(units,)] * 3]
    return Imitation("PeepholeLSTMCell", config, drawn(*shapes))


def rnn(cell, **config):
    return Imitation("RNN", {"name": "rnn", "time_major": False, **config}, cell.get_weights(), cell=cell)


def test_converts_a_peephole_cell_and_its_loop():
    cell = peephole_cell()
    converted = convert_layer(cell)
    assert isinstance(converted, PeepholeLSTMCell)
    layer = convert_layer(rnn(cell, return_sequences=True, go_backwards=True))
    assert isinstance(layer, PeepholeLSTM) and layer.name == "rnn" and layer.go_backwards
    assert isinstance(layer.cell.peephole_initializer, keras.initializers.GlorotUniform)
    x = drawn((2, 6, 4))[0]
    loop = keras.layers.RNN(converted, return_sequences=True, go_backwards=True)
    np.testing.assert_allclose(layer(x), loop(x), atol=1e-6)


def test_converts_a_stack_of_cells():
    cells = [peephole_cell(5, 4), peephole_cell(3, 5)]
    stack = Imitation("StackedRNNCells", {}, [w for cell in cells for w in cell.get_weights()], cells=cells)
    layer = convert_layer(rnn(stack))
    one, two = (convert_layer(rnn(cell, return_sequences=True)) for cell in cells)
    x = drawn((2, 6, 4))[0]
    np.testing.assert_allclose(layer(x), two(one(x))[:, -1], atol=1e-6)


def test_converts_a_bidirectional_layer():
    there, back = (rnn(peephole_cell(), return_sequences=True, go_backwards=back) for back in (False, True))
    config = {"name": "both", "merge_mode": "concat"}
    weights = there.get_weights() + back.get_weights()
    both = Imitation("Bidirectional", config, weights, (None, None, 4), forward_layer=there, backward_layer=back)
    layer, x = convert_layer(both), drawn((2, 6, 4))[0]
    expected = np.concatenate([convert_layer(there)(x), np.flip(convert_layer(back)(x), axis=1)], axis=-1)
    np.testing.assert_allclose(layer(x), expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["ESN", "ESNCell", "RNN"])
def test_converts_an_echo_state_network(kind):
    matrix, kernel, bias = drawn((6, 6), (4, 6), (6,))
    config = {"name": "reservoir", "units": 6, "leaky": 0.7, "activation": "tanh", "use_bias": True}
    layer = Imitation("ESN" if kind == "ESN" else "ESNCell", config, [matrix, kernel, bias])
    if kind != "RNN":
        layer.config["return_sequences"] = True
    else:
        layer = rnn(layer, return_sequences=True)
    converted, x, h, expected = convert_layer(layer), drawn((2, 5, 4))[0], np.zeros((2, 6)), []
    assert isinstance(converted, ESN)
    for t in range(5):
        h = 0.3 * h + 0.7 * np.tanh(x[:, t] @ kernel + h @ matrix + bias)
        expected.append(h)
    np.testing.assert_allclose(converted(x), np.stack(expected, 1), atol=1e-6)


def test_converts_layers_of_keras_2():
    layer, x = dense(), drawn((2, 3))[0]
    np.testing.assert_allclose(convert_layer(layer)(x), x @ layer.weights[0] + layer.weights[1], atol=1e-6)
    policy = {"class_name": "Policy", "config": {"name": "mixed_float16"}}
    dropout = convert_layer(Imitation("Dropout", {"name": "drop", "rate": 0.5, "noise_shape": None, "dtype": policy}))
    assert dropout.rate == 0.5 and dropout.dtype_policy.name == "mixed_float16"
    table = drawn((7, 3))[0]
    config = {"name": "table", "input_dim": 7, "output_dim": 3, "mask_zero": True, "input_length": None}
    embedding = convert_layer(Imitation("Embedding", config, [table], (None, None)))
    np.testing.assert_array_equal(embedding(np.array([[1, 6]])), table[[[1, 6]]])
    norm = Imitation(
        "BatchNormalization", {"name": "norm", "axis": [2]}, drawn((3,), (3,), (3,), (3,)), (None, None, 3)
    )
    assert convert_layer(norm).axis == 2


def test_converts_a_sequential_model():
    first, second = rnn(peephole_cell(), return_sequences=False), dense(features=5)
    model = Imitation("Sequential", {"name": "reader"}, layers=[first, second], input_shape=(None, None, 4))
    x = drawn((2, 6, 4))[0]
    np.testing.assert_allclose(convert_model(model)(x), convert_layer(second)(convert_layer(first)(x)), atol=1e-6)


def test_converts_a_functional_model_with_a_shared_layer_and_two_inputs():
    shared, end, add = dense("shared", 3, 3), dense("end", 3, 2), Imitation("Add", {"name": "add"})
    layers = {layer.name: layer for layer in (shared, end, add)}
    layers |= {name: Imitation("InputLayer", {"name": name}) for name in "ab"}
    inputs = [
        {"name": name, "config": {"batch_input_shape": (None, 3), "dtype": "float32"}, "inbound_nodes": []}
        for name in "ab"
    ]
    calls = {"end": [[["add", 0, 0, {}]]], "add": [[["shared", 0, 0, {}], ["shared", 1, 0, {}]]]}
    calls["shared"] = [[["a", 0, 0, {}]], [["b", 0, 0, {"training": None}]]]
    config = {"layers": [*inputs, *({"name": name, "inbound_nodes": nodes} for name, nodes in calls.items())]}
    config |= {"input_layers": [["a", 0, 0], ["b", 0, 0]], "output_layers": [["end", 0, 0]]}
    model = Imitation("Functional", config, get_layer=layers.__getitem__)
    a, b = drawn((2, 3), (2, 3))
    converted = convert_model(model)
    once, last = convert_layer(shared), convert_layer(end)
    np.testing.assert_allclose(converted([a, b]), last(once(a) + once(b)), atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Imitation("NASCell", {"name": "nas"}), "an equivalent in Keras 3: RNN, .* Received: 'nas' of type NASCell"),
        (rnn(Imitation("NASCell", {"name": "nas"})), "Received: 'nas' of type NASCell"),
        (Imitation("ESN", {"name": "esn"}), "layer with weights. Received: 'esn' of type ESN, which is not built"),
        (
            Imitation("LSTM", {"name": "l", "units": 2, "time_major": True}),
            "batch-major inputs. Received: 'l' of type LSTM",
        ),
        (
            Imitation("Dense", {"name": "d", "units": 2}, drawn((3, 5), (5,)), (None, 3)),
            r"weights of shapes \[\(3, 2\), \(2,\)\] in 'd' of type Dense. Received: \[\(3, 5\), \(5,\)\]",
        ),
    ],
)
def test_an_unsupported_layer_raises_an_error(layer, message):
    with pytest.raises(ValueError, match=message):
        convert_layer(layer)


def test_a_subclassed_model_raises_an_error():
    with pytest.raises(ValueError, match="Sequential or functional model of Keras 2. Received: 'mine' of type MyModel"):
        convert_model(Imitation("MyModel", {"name": "mine"}))


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
