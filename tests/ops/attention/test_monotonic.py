"""monotonic_alignment, compared to the textbook recursion and TensorFlow Addons."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_dl.ops.attention import monotonic_alignment

from ...addons import run_beside_addons

MODES = ["parallel", "recursive"]


def textbook(probability, previous):
    """Computes the recursion one number at a time."""
    alignments = np.zeros_like(probability)
    for row in range(len(probability)):
        before = previous[row]
        for t, stop in enumerate(probability[row]):
            reached = 0.0
            for s in range(len(stop)):
                reached = (reached * (1 - stop[s - 1]) if s else 0.0) + before[s]
                alignments[row, t, s] = stop[s] * reached
            before = alignments[row, t]
    return alignments


def case(seed, batch=2, queries=4, keys=9):
    generator = np.random.default_rng(seed)
    probability = generator.random((batch, queries, keys))
    probability[generator.random(probability.shape) < 0.2] = 0
    probability[generator.random(probability.shape) < 0.1] = 1
    return probability, generator.dirichlet(np.ones(keys), batch)


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999), queries=st.integers(0, 4), keys=st.integers(1, 17))
def test_matches_the_recursion(mode, seed, queries, keys):
    probability, previous = case(seed, queries=queries, keys=keys)
    found = monotonic_alignment(probability, previous, mode)
    np.testing.assert_allclose(found, textbook(probability, previous), atol=1e-12)
    assert np.all(np.sum(found, axis=-1) < 1 + 1e-12)


@pytest.mark.parametrize(("mode", "jit"), [("parallel", False), ("recursive", False), ("recursive", True)])
def test_gradients(mode, jit):
    probability, previous = case(1)
    direction = np.random.default_rng(2).normal(size=probability.shape)

    def slope(probability, previous):
        with tf.GradientTape() as tape:
            tape.watch(probability)
            value = tf.reduce_sum(monotonic_alignment(probability, previous, mode) * direction)
        return tape.gradient(value, probability)

    function = tf.function(slope, jit_compile=True, autograph=False) if jit else slope
    found = function(tf.constant(probability), tf.constant(previous))
    step = np.random.default_rng(3).normal(size=probability.shape) * 1e-6
    above, below = (textbook(probability + sign * step, previous) for sign in (1, -1))
    np.testing.assert_allclose(np.sum(found * step), np.sum((above - below) * direction) / 2, rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_distant_keys_keep_their_precision(mode):
    """The usual quotient of products underflows after many keys."""
    probability, previous = np.full((1, 1, 300), 0.5, "float32"), np.zeros((1, 300), "float32")
    previous[0, 200] = 1
    found = monotonic_alignment(probability, previous, mode)
    np.testing.assert_allclose(found[0, 0, 200:205], 0.5 ** np.arange(1, 6), rtol=1e-6)


@pytest.mark.parametrize("mode", [*MODES, "hard"])
def test_one_graph_for_all_shapes(mode):
    spec = tf.TensorSpec([None, None, None], tf.float64), tf.TensorSpec([None, None], tf.float64)
    traced = tf.function(lambda *x: monotonic_alignment(*x, mode), input_signature=spec)
    for seed, (batch, queries, keys) in enumerate([(2, 4, 9), (1, 1, 1), (3, 0, 2)]):
        probability, previous = case(seed, batch, queries, keys)
        if mode == "hard":
            probability, previous = np.round(probability), np.eye(keys)[np.zeros(batch, int)]
        np.testing.assert_allclose(traced(probability, previous), textbook(probability, previous), atol=1e-12)


def test_hard_stops_at_the_first_key_after_the_previous_one():
    probability = np.array(
        [[[0, 0, 1, 1, 0], [1, 0, 0, 1, 0], [0, 0, 0, 1, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]], float
    )
    found = monotonic_alignment(probability, np.eye(5)[:1], "hard")
    np.testing.assert_array_equal(found[0], [*np.eye(5)[[2, 3, 3]], np.zeros(5), np.zeros(5)])


def test_an_invalid_mode_raises():
    with pytest.raises(ValueError, match="`mode` must be one of parallel, recursive, hard. Received: 'soft'"):
        monotonic_alignment(*case(0), mode="soft")


ADDONS = """
from tensorflow_addons.seq2seq.attention_wrapper import monotonic_attention
cases = json.load(sys.stdin)
found = {}
for mode, (probability, previous) in cases.items():
    before, found[mode] = np.array(previous, "float32"), []
    for now in np.array(probability, "float32").swapaxes(0, 1):
        before = monotonic_attention(now, before, mode)
        found[mode].append(before.numpy().tolist())
print(json.dumps(found))
"""


@pytest.mark.slow  # imports TensorFlow twice; test_migration_addons compares the layers to those of Addons
def test_matches_tensorflow_addons():
    cases = {mode: [x.tolist() for x in case(seed)] for seed, mode in enumerate([*MODES, "hard"])}
    # Its parallel mode loses everything after a key with stopping probability 1.
    cases["parallel"][0] = np.clip(cases["parallel"][0], 0.0, 0.9).tolist()
    cases["hard"] = [np.round(cases["hard"][0]).tolist(), np.eye(9)[[0, 0]].tolist()]
    found = run_beside_addons(ADDONS, cases)
    for mode, tensors in cases.items():
        ours = monotonic_alignment(*(np.array(x, "float32") for x in tensors), mode)
        np.testing.assert_allclose(ours, np.array(found[mode]).swapaxes(0, 1), atol=1e-6, err_msg=mode)
