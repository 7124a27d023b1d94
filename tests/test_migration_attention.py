"""Migration of attention: against the real TensorFlow Addons where they are installed, and their objects imitated."""

import numpy as np
import pytest

from keras_dl.layers import AdditiveAttention, GeneralAttention, MonotonicAttention
from keras_dl.migration import convert_layer

from .addons import run_beside_addons

GENERATOR = np.random.default_rng(0)


class Imitation:
    """What `convert_layer` asks of a mechanism of Addons, under the name of its class."""

    def __new__(cls, kind, config, shapes=(), **attributes):
        layer = object.__new__(type(kind, (Imitation,), {}))
        weights = [GENERATOR.normal(0, 0.5, shape).astype("float32") for shape in shapes]
        vars(layer).update(config=config, weights=weights, name=config["name"], **attributes)
        return layer

    def get_config(self):
        return self.config

    def get_weights(self):
        return self.weights


def mechanism(kind, shapes, **config):
    monotonic = {"sigmoid_noise": 0.5, "score_bias_init": -1.0, "mode": "parallel"} if "Monotonic" in kind else {}
    return Imitation(
        kind, {"name": "memory", "dtype": "float32", "units": 4, "memory": None, **monotonic, **config}, shapes
    )


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
def test_mechanisms_become_layers(kind, shapes, config, cls):
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
def test_what_has_no_counterpart_is_refused(layer, message):
    with pytest.raises(ValueError, match=message):
        convert_layer(layer)


def test_a_wrapper_with_functions_of_its_own_is_refused():
    attention = mechanism("LuongAttention", [(5, 4)], scale=False)
    parts = {"_cell_input_fn": lambda x, attention: x, "_attention_fn": np.sum, "_attention_layers": None}
    wrapper = Imitation("AttentionWrapper", {"name": "decoder"}, _attention_mechanisms=[attention], **parts)
    with pytest.raises(
        ValueError, match="Expected one mechanism.* Received: 'decoder', a AttentionWrapper with 1 mech"
    ):
        convert_layer(wrapper)


PARITY = """
from keras_dl.layers import AttentionRNN
from keras_dl.migration import convert_layer
errors = {"float32": {}, "float64": {}}
rng = np.random.default_rng(0)
lengths = np.array([7, 3, 1, 5])
mask = np.arange(7) < lengths[:, None]

def compare(name, dtype, pairs):
    worst = max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)
    errors[dtype][name] = max(worst, errors[dtype].get(name, 0.0))

def attend(old, query, previous):
    alignment, _ = old([query, previous])
    return tf.matmul(alignment[:, None], old.values)[:, 0], alignment

def randomised(layer):
    layer.set_weights([rng.normal(0, .5, w.shape) for w in layer.get_weights()])

for dtype in errors:
    memory = rng.normal(size=(4, 7, 5)).astype(dtype)
    x = rng.normal(size=(4, 5, 3)).astype(dtype)
    options = {"memory": memory, "dtype": dtype}
    makers = {
        "bahdanau": lambda **o: tfa.seq2seq.BahdanauAttention(6, **options, **o),
        "normalised bahdanau": lambda **o: tfa.seq2seq.BahdanauAttention(6, normalize=True, **options, **o),
        "luong": lambda **o: tfa.seq2seq.LuongAttention(6, **options, **o),
        "scaled luong": lambda **o: tfa.seq2seq.LuongAttention(6, scale=True, **options, **o),
        "monotonic bahdanau": lambda **o: tfa.seq2seq.BahdanauMonotonicAttention(6, normalize=True, **options, **o),
        "monotonic luong": lambda **o: tfa.seq2seq.LuongMonotonicAttention(6, scale=True, **options, **o),
        "hard bahdanau": lambda **o: tfa.seq2seq.BahdanauMonotonicAttention(6, mode="hard", **options, **o),
    }
    for name, make in makers.items():
        for masked in (True, False):
            how = {"memory_sequence_length": lengths} if masked else {}
            old, query = make(**how), rng.normal(size=(4, 6)).astype(dtype)
            previous = old.initial_alignments(4, tf.as_dtype(dtype))
            old([query, previous])
            randomised(old)
            old.setup_memory(memory, **how)  # with the weights that are now there
            new = convert_layer(old)
            context, alignment = attend(old, query, previous)
            given = {"value_mask": mask} if masked else {}
            found = new(query[:, None], memory, return_attention_scores=True, **given)
            alone = new(query[:, None], memory, **given)
            compare(name, dtype, [(context, found[0][:, 0]), (alignment, found[1][:, 0]), (context, alone[:, 0])])
    def stack():
        cells = [tf_keras.layers.LSTMCell(6, dtype=dtype), tf_keras.layers.GRUCell(6, dtype=dtype)]
        return tf_keras.layers.StackedRNNCells(cells, dtype=dtype)
    wrappers = {
        "lstm": (lambda: tf_keras.layers.LSTMCell(6, dtype=dtype), "bahdanau", {"attention_layer_size": 4}),
        "gru": (lambda: tf_keras.layers.GRUCell(6, dtype=dtype), "scaled luong", {}),
        "stack": (stack, "normalised bahdanau", {"attention_layer_size": 4, "output_attention": False}),
        "peephole": (lambda: tfa.rnn.PeepholeLSTMCell(6, dtype=dtype), "monotonic bahdanau",
                     {"attention_layer": tf_keras.layers.Dense(4, activation="tanh", use_bias=False, dtype=dtype)}),
    }
    for name, (cell, kind, arguments) in wrappers.items():
        name = "wrapper, " + name
        mechanism = makers[kind](memory_sequence_length=lengths)
        old = tfa.seq2seq.AttentionWrapper(cell(), mechanism, dtype=dtype, **arguments)
        old(x[:, 0], old.get_initial_state(batch_size=4, dtype=tf.as_dtype(dtype)))
        randomised(old)
        mechanism.setup_memory(memory, memory_sequence_length=lengths)
        state = old.get_initial_state(batch_size=4, dtype=tf.as_dtype(dtype))
        new = convert_layer(old)
        prepared = new.prepare(memory, mask)
        states, outputs, alignments = new.start(prepared), [], []
        for t in range(5):
            output, state = old(x[:, t], state)
            found, states = new.step(x[:, t], states, prepared)
            outputs.append(output)
            alignments.append(state.alignments)
            pairs = zip([*tf.nest.flatten(state.cell_state), state.attention, state.alignments], states, strict=True)
            compare(name, dtype, [(output, found), *pairs])
        whole = AttentionRNN(new, return_alignments=True, dtype=dtype)(x, memory, memory_mask=mask)
        compare(name + ", whole", dtype, zip([np.stack(outputs, 1), np.stack(alignments, 1)], whole, strict=True))
        initial = new.get_initial_state(memory=memory, memory_mask=mask)
        loop = keras.layers.RNN(new, return_sequences=True, dtype=dtype)(x, initial_state=initial)
        compare(name + ", keras.layers.RNN", dtype, [(np.stack(outputs, 1), loop)])
        if "monotonic" not in kind:  # whose weights stand in another order
            compare(name + ", weights", dtype, zip(old.get_weights(), new.get_weights(), strict=True))
print(json.dumps(errors))
"""


def test_outputs_are_those_of_tensorflow_addons():
    errors = run_beside_addons(PARITY)
    assert len(errors["float32"]) == 7 + 4 * 3 + 3
    assert {name: value for name, value in errors["float32"].items() if not value < 1e-6} == {}
    assert {name: value for name, value in errors["float64"].items() if not value < 1e-12} == {}
