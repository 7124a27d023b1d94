"""Attention in blocks: memory, dropout, exports and other backends."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.saved_model import loader_impl

from keras_dl.ops.attention import blocks

from .cases import FUNCTIONS, SEED, case, compare, expected, padding, with_gradients

KINDS = sorted(FUNCTIONS)
both = pytest.mark.parametrize("kind", KINDS)


def largest(function, tensors):
    """Returns the size of the largest tensor of a graph, including its loops."""
    graph = tf.function(function, autograph=False).get_concrete_function(*tensors).graph.as_graph_def(add_shapes=True)
    nodes = [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]
    assert any(node.op.endswith("While") for node in nodes) or function is by_keras
    shapes = [shape for node in nodes for shape in node.attr["_output_shapes"].list.shape]
    return max(np.prod([dim.size for dim in shape.dim]) for shape in shapes if not shape.unknown_rank)


def by_keras(query, key, value, scale, upstream):
    with tf.GradientTape() as tape:
        tape.watch([query, key, value])
        context = keras.layers.AdditiveAttention(use_scale=False)([query, value, key])
    return tape.gradient(context, [query, key, value], upstream)


@pytest.mark.parametrize(("kind", "causal"), [("additive", True), ("dot_product", False)])
def test_no_tensor_of_queries_times_keys_is_stored(kind, causal, monkeypatch):
    monkeypatch.setattr(blocks, "_BYTES", 4096)
    tensors = case(kind, 2, 80, 60, dtype="float32", heads=2)
    held = largest(lambda *x: with_gradients(kind, x, mask=padding(2, 60), causal=causal), tensors)
    assert held < 80 * 60  # for one row of the batch, not for two
    if kind == "additive":
        assert largest(by_keras, tensors) == 2 * 80 * 60 * 4


@both
def test_blocks_use_the_allowed_size(kind, monkeypatch):
    tensors = case(kind, 2, 80, 60, dtype="float32", heads=2)
    for affordable in (2**12, 2**14, 2**16):
        monkeypatch.setattr(blocks, "_BYTES", affordable)
        query, key = tensors[:2] if kind == "additive" else (tf.reshape(x, [4, x.shape[1], 4]) for x in tensors[:2])
        width = 4 if kind == "additive" else 1
        made = blocks._Blocks(query, key, width, None, False)
        one = 4 * width * made.rows * 60  # bytes per query
        assert made.size == 1 or made.size * one <= affordable
        assert made.size * made.count >= 80 > made.size * made.count - made.count


@both
@pytest.mark.parametrize("causal", [False, True])
def test_dropout_depends_on_the_seed_but_not_on_the_blocks(kind, causal, monkeypatch):
    tensors = case(kind, 2, 9, 7)
    options = {"mask": padding(2, 7), "causal": causal, "dropout": 0.4}
    whole = with_gradients(kind, tensors, seed=SEED, **options)
    for affordable in (1, 1000):  # one query per block, and two or three
        monkeypatch.setattr(blocks, "_BYTES", affordable)
        compare(with_gradients(kind, tensors, seed=SEED, **options), whole, 1e-12)
    other = with_gradients(kind, tensors, seed=SEED + 1, **options)
    assert np.max(abs(other[0] - whole[0])) > 0.1


@pytest.mark.parametrize(
    ("kind", "jit"),
    [("additive", False), ("dot_product", False), pytest.param("dot_product", True, marks=pytest.mark.slow)],
)
def test_the_backward_pass_drops_the_same_weights(kind, jit, monkeypatch):
    """The context is linear in the values, so its gradient shows which weights were kept."""
    monkeypatch.setattr(blocks, "_BYTES", 512)
    query, key, value, scale, upstream = case(kind, 1, 5, 6)
    traced = tf.function(
        lambda *x: with_gradients(kind, x, dropout=0.5, seed=SEED, causal=True), jit_compile=jit, autograph=False
    )
    context, of_query, _, of_value, _ = traced(query, key, value, scale, upstream)
    np.testing.assert_allclose(tf.reduce_sum(of_value * value), tf.reduce_sum(context * upstream), atol=1e-12)
    step = 1e-6 * case(kind, 1, 5, 6, seed=1)[0]
    above, below = (traced(query + sign * step, key, value, scale, upstream)[0] for sign in (1, -1))
    slope = tf.reduce_sum((above - below) * upstream) / 2
    np.testing.assert_allclose(slope, tf.reduce_sum(of_query * step), rtol=1e-6)


@both
@pytest.mark.parametrize("rate", [0.1, 0.7])
def test_a_fraction_of_the_weights_is_dropped(kind, rate):
    """With equal weights and one-hot values, the context shows which weights are kept."""
    query, key, value, scale, _ = case(kind, 4, 64, 64, dtype="float32", features=2, values=64, heads=1)
    eye = tf.reshape(tf.eye(64, batch_shape=[4]), value.shape)
    context = FUNCTIONS[kind](query * 0, key * 0, eye, scale, dropout=rate, seed=SEED).numpy().reshape(4, 64, 64)
    left = context > 0
    np.testing.assert_allclose(context[left], 1 / 64 / (1 - rate), rtol=1e-5)
    deviation = np.sqrt(rate * (1 - rate))
    assert abs(left.mean() - (1 - rate)) < 4 * deviation / np.sqrt(left.size)
    # Also for each query, key and row of the batch, and no two are equal.
    for axes in [(0, 1), (0, 2), (1, 2)]:
        means = left.mean(axes)
        assert np.all(abs(means - (1 - rate)) < 5 * deviation / np.sqrt(left.size / len(means)))
    rows = left.reshape(-1, 64).astype(float) - left.mean()
    correlation = rows @ rows.T / 64 / deviation**2
    assert np.max(abs(correlation - np.diag(np.diag(correlation)))) < 0.85


@both
def test_seeds_of_keras(kind):
    *tensors, _ = case(kind, 2, 4, 5)
    generator = keras.random.SeedGenerator(1)
    first, second = (FUNCTIONS[kind](*tensors, dropout=0.5, seed=generator.next()) for _ in range(2))
    assert np.any(first != second)


@pytest.mark.parametrize(("kind", "traced"), [("additive", False), ("dot_product", False), ("dot_product", True)])
def test_second_order_gradients_raise(kind, traced):
    *tensors, _ = case(kind, 1, 2, 3)

    def second():
        with tf.GradientTape() as outer:
            outer.watch(tensors)
            with tf.GradientTape() as inner:
                inner.watch(tensors)
                total = tf.reduce_sum(FUNCTIONS[kind](*tensors))
            slope = tf.reduce_sum(inner.gradient(total, tensors[0]) ** 2)
        return outer.gradient(slope, tensors)

    with pytest.raises(ValueError, match="first-order gradients .* Received: a request"):
        (tf.function(second, autograph=False) if traced else second)()


@both
def test_a_saved_model_with_a_loop(kind, tmp_path):
    """A step-by-step loop like in a decoder; it does not require XLA and is differentiable when loaded."""
    query, key, value, scale, _ = case(kind, 2, 3, 5, dtype="float32")
    module = tf.Module()
    signature = [tf.TensorSpec([None, None, *x.shape[2:]]) for x in (query, key, value)]

    @tf.function(input_signature=[*signature, tf.TensorSpec([None, None], tf.bool)], autograph=False)
    def steps(query, key, value, mask):
        def body(step, contexts):
            context = FUNCTIONS[kind](query[:, step][:, None], key, value, scale, mask=mask)
            return step + 1, contexts.write(step, context[:, 0])

        contexts = tf.TensorArray(tf.float32, tf.shape(query)[1], element_shape=[None, *value.shape[2:]])
        _, contexts = tf.while_loop(lambda step, _: step < tf.shape(query)[1], body, (0, contexts))
        return tf.experimental.numpy.swapaxes(contexts.stack(), 0, 1)

    module.whole = tf.function(
        lambda query, key, value: FUNCTIONS[kind](query, key, value, scale), input_signature=signature, autograph=False
    )
    module.steps = steps
    tf.saved_model.save(module, str(tmp_path))
    graph = loader_impl.parse_saved_model(str(tmp_path)).meta_graphs[0].graph_def
    assert not any(function.attr["_XlaMustCompile"].b for function in graph.library.function)
    loaded, mask = tf.saved_model.load(str(tmp_path)), padding(2, 5)
    wanted = expected(
        kind, [query, key, value, scale, np.zeros_like(FUNCTIONS[kind](query, key, value, scale))], mask=mask
    )
    np.testing.assert_allclose(loaded.steps(query, key, value, tf.constant(mask)), wanted[0], atol=1e-6)
    with tf.GradientTape() as tape:
        tape.watch([query, key, value])
        context = loaded.whole(query, key, value)
    found = tape.gradient(context, [query, key, value])
    wanted = expected(kind, [query, key, value, scale, np.ones_like(context)])
    compare([context, *found, wanted[4]], wanted, 1e-5)


ELSEWHERE = """
import numpy as np, keras
from keras_dl.ops.attention import additive_attention, dot_product_attention, monotonic_alignment
assert keras.backend.backend() == "torch"
r = np.random.default_rng(0)
query, key, value, scale = (r.normal(size=s).astype("float32") for s in ((2, 3, 4), (2, 5, 4), (2, 5, 6), (4,)))
mask = np.array([[0] * 5, [1, 1, 0, 1, 1]], bool)
value[~mask] = np.nan
for dropout in (0.0, 0.5):
    options = dict(mask=mask, causal=True, dropout=dropout, seed=keras.random.SeedGenerator(1).next())
    context = additive_attention(query, key, value, scale, **options)
    heads = dot_product_attention(query[:, :, None], key[:, :, None], value[:, :, None], 0.5, **options)
    if not dropout:
        print([keras.ops.convert_to_numpy(x).astype("float64").tolist() for x in (context, heads)])
for mode in ("parallel", "recursive", "hard"):
    monotonic_alignment(np.full((2, 3, 5), 0.5, "float32"), np.eye(5, dtype="float32")[:2], mode)
"""


def test_another_backend_agrees():
    pytest.importorskip("torch")
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    answer = subprocess.run([sys.executable, "-c", ELSEWHERE], env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    generator = np.random.default_rng(0)
    sizes = ((2, 3, 4), (2, 5, 4), (2, 5, 6), (4,))
    query, key, value, scale = (generator.normal(size=size).astype("float32") for size in sizes)
    options = {"mask": np.array([[0] * 5, [1, 1, 0, 1, 1]], bool), "causal": True}
    additive, heads = (np.array(x) for x in eval(answer.stdout.splitlines()[-1]))
    wanted = expected("additive", [query, key, value, scale, np.zeros((2, 3, 6))], **options)[0]
    np.testing.assert_allclose(additive, wanted, atol=1e-6)
    tensors = [x[:, :, None] for x in (query, key, value)]
    wanted = expected("dot_product", [*tensors, 0.5, np.zeros((2, 3, 1, 6))], **options)[0]
    np.testing.assert_allclose(heads, wanted, atol=1e-6)
