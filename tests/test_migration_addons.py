"""Tests of migration against TensorFlow Addons and Keras 2, in one process, where they are installed."""

import pytest

from .addons import run_beside_addons

LAYERS = """
errors = results["layers"] = {"float32": {}, "float64": {}}
rng = np.random.default_rng(0)
mask = np.array([[1] * 6, [1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 0, 1], [0] * 6], bool)

def compare(name, dtype, old, new, mask=None, slopes=True):
    x = tf.constant(rng.normal(size=(4, 6, 3)), dtype)
    options = {} if mask is None else {"mask": mask}
    results = []
    for layer in (old, new):
        if not slopes:
            results.append([layer(x, **options)])
            continue
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, **options)
            total = tf.reduce_sum(tf.square(y))
        weights = [getattr(w, "value", w) if layer is new else w for w in layer.trainable_weights]
        results.append([y, *tape.gradient(total, [x, *weights])])
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in zip(*results, strict=True)]
    worst = max(float(np.abs(a - b).max() / max(1, np.abs(a).max())) for a, b in pairs)
    errors[dtype][name] = worst

for dtype in errors:
    full = dtype == "float64"  # float32 is checked with one layer of each kind
    def randomized(layer):
        layer.build((None, None, 3))
        layer.set_weights([rng.normal(0, .5, w.shape) for w in layer.get_weights()])
        return layer
    def loop(**options):
        cell = tfa.rnn.PeepholeLSTMCell(5, dtype=dtype)
        return randomized(tf_keras.layers.RNN(cell, return_sequences=True, dtype=dtype, **options))
    loops = {"peephole": {}, "backwards": {"go_backwards": True}, "zeroed": {"zero_output_for_mask": True}}
    for name, options in list(loops.items())[: 3 if full else 1]:
        old = loop(**options)
        new = convert_layer(old)
        compare(name, dtype, old, new, mask)
    old = randomized(tfa.layers.ESN(20, connectivity=.5, leaky=.7, return_sequences=True, dtype=dtype))
    compare("esn", dtype, old, convert_layer(old), slopes=False)
    compare("esn masked", dtype, old, convert_layer(old), mask, slopes=False)
    layers = (tf_keras.layers.LSTM(5, recurrent_activation="hard_sigmoid", dtype=dtype),
              tf_keras.layers.GRU(5, dtype=dtype),
              tf_keras.layers.Bidirectional(tf_keras.layers.LSTM(5, dtype=dtype), dtype=dtype))
    for layer in layers[: 3 if full else 1]:
        compare(layer.name, dtype, randomized(layer), convert_layer(layer))
    inputs = tf_keras.Input((None, 3), dtype=dtype)
    x = tf_keras.layers.Dense(4, activation="tanh", dtype=dtype)(inputs)
    y = tf_keras.layers.RNN(tfa.rnn.PeepholeLSTMCell(4, dtype=dtype), return_sequences=True, dtype=dtype)(x)
    model = tf_keras.Model(inputs, tf_keras.layers.Add(dtype=dtype)([x, y]))
    compare("functional", dtype, model, convert_model(model))
    if not full:
        continue
    model = tf_keras.Sequential([tf_keras.Input((None, 3), dtype=dtype), tf_keras.layers.Masking(dtype=dtype),
                                 tf_keras.layers.LSTM(4, dtype=dtype), tf_keras.layers.Dense(2, dtype=dtype)])
    compare("sequential", dtype, model, convert_model(model))
"""

ATTENTION = """
errors = results["attention"] = {"float32": {}, "float64": {}}
rng = np.random.default_rng(0)
lengths = np.array([7, 3, 1, 5])
mask = np.arange(7) < lengths[:, None]

def compare(name, dtype, pairs):
    worst = max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)
    errors[dtype][name] = max(worst, errors[dtype].get(name, 0.0))

def attend(old, query, previous):
    alignment, _ = old([query, previous])
    return tf.matmul(alignment[:, None], old.values)[:, 0], alignment

def randomized(layer):
    layer.set_weights([rng.normal(0, .5, w.shape) for w in layer.get_weights()])

for dtype in errors:
    memory = rng.normal(size=(4, 7, 5)).astype(dtype)
    x = rng.normal(size=(4, 5, 3)).astype(dtype)
    options = {"memory": memory, "dtype": dtype}
    makers = {
        "bahdanau": lambda **o: tfa.seq2seq.BahdanauAttention(6, **options, **o),
        "normalized bahdanau": lambda **o: tfa.seq2seq.BahdanauAttention(6, normalize=True, **options, **o),
        "luong": lambda **o: tfa.seq2seq.LuongAttention(6, **options, **o),
        "scaled luong": lambda **o: tfa.seq2seq.LuongAttention(6, scale=True, **options, **o),
        "monotonic bahdanau": lambda **o: tfa.seq2seq.BahdanauMonotonicAttention(6, normalize=True, **options, **o),
        "monotonic luong": lambda **o: tfa.seq2seq.LuongMonotonicAttention(6, scale=True, **options, **o),
        "hard bahdanau": lambda **o: tfa.seq2seq.BahdanauMonotonicAttention(6, mode="hard", **options, **o),
    }
    full = dtype == "float64"
    for name in makers if full else ("normalized bahdanau", "scaled luong", "monotonic luong"):
        make = makers[name]
        for masked in (True, False):
            how = {"memory_sequence_length": lengths} if masked else {}
            old, query = make(**how), rng.normal(size=(4, 6)).astype(dtype)
            previous = old.initial_alignments(4, tf.as_dtype(dtype))
            old([query, previous])
            randomized(old)
            old.setup_memory(memory, **how)  # projects the memory with the new weights
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
        "stack": (stack, "normalized bahdanau", {"attention_layer_size": 4, "output_attention": False}),
        "peephole": (lambda: tfa.rnn.PeepholeLSTMCell(6, dtype=dtype), "monotonic bahdanau",
                     {"attention_layer": tf_keras.layers.Dense(4, activation="tanh", use_bias=False, dtype=dtype)}),
    }
    for name in wrappers if full else ("stack",):
        cell, kind, arguments = wrappers[name]
        name = "wrapper, " + name
        mechanism = makers[kind](memory_sequence_length=lengths)
        old = tfa.seq2seq.AttentionWrapper(cell(), mechanism, dtype=dtype, **arguments)
        old(x[:, 0], old.get_initial_state(batch_size=4, dtype=tf.as_dtype(dtype)))
        randomized(old)
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
        if "monotonic" not in kind:  # its weights are in another order
            compare(name + ", weights", dtype, zip(old.get_weights(), new.get_weights(), strict=True))
"""

SCRIPT = f"""
from keras_dl.layers import AttentionRNN
from keras_dl.migration import convert_layer, convert_model
results = {{}}
tf.config.run_functions_eagerly(True)
{LAYERS}
{ATTENTION}
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def errors():
    """The largest relative differences between old and converted layers."""
    return run_beside_addons(SCRIPT)


@pytest.mark.parametrize(
    ("part", "dtype", "count", "tolerance"),
    [
        ("layers", "float32", 5, 1e-6),
        ("layers", "float64", 10, 1e-12),
        ("attention", "float32", 3 + 3 + 1, 1e-6),
        ("attention", "float64", 7 + 4 * 3 + 3, 1e-12),
    ],
)
def test_outputs_and_gradients_match(errors, part, dtype, count, tolerance):
    found = errors[part][dtype]
    assert len(found) == count
    assert {name: value for name, value in found.items() if not value < tolerance} == {}
