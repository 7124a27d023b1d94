"""Relations between the loss, the alignment and greedy decoding, for random rows."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_dl.ops.ctc import align, collapse, ctc_loss, greedy_decode, minimum_frames

B, T, L, V = 4, 7, 5, 4  # the same in every example, because each new shape is traced
quickly = settings(max_examples=25, deadline=None, derandomize=True, database=None)


@st.composite
def batches(draw):
    """Draws labels, logits, their lengths, and the blank; logits are padded with NaN, labels with -1."""
    blank = draw(st.integers(0, V - 1))
    tokens = st.sampled_from([token for token in range(V) if token != blank])
    rows = draw(st.lists(st.lists(tokens, max_size=L), min_size=B, max_size=B))
    labels = np.array([row + [-1] * (L - len(row)) for row in rows], "int32")
    frames = np.array(draw(st.lists(st.integers(0, T), min_size=B, max_size=B)), "int32")
    # From a generator, so that no two paths are equally probable.
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = generator.normal(0, draw(st.sampled_from([0.1, 1, 10])), (B, T, V)).astype("float32")
    logits[np.arange(T) >= frames[:, None]] = np.nan
    return labels, logits, frames, blank


@quickly
@given(batches())
def test_an_alignment_collapses_to_the_labels_and_bounds_the_loss(batch):
    labels, logits, frames, blank = batch
    alignment = align(labels, logits, logit_length=frames, blank_index=blank)
    score = alignment.log_probability.numpy()
    possible = np.isfinite(score)
    np.testing.assert_array_equal(possible, minimum_frames(labels, blank_index=blank) <= frames)
    collapsed = collapse(alignment.path, blank).numpy()
    np.testing.assert_array_equal(collapsed[possible, :L], labels[possible])
    assert (collapsed[~possible] == -1).all()
    assert (collapsed[:, L:] == -1).all()
    loss = ctc_loss(labels, logits, logit_length=frames, blank_index=blank).numpy()
    assert (score <= -loss + 1e-4)[possible].all()
    best = greedy_decode(logits, frames, blank).log_probability.numpy()
    assert (score <= best + 1e-4)[possible].all()


@quickly
@given(batches())
def test_the_alignment_of_a_greedy_decoding_is_its_path(batch):
    _, logits, frames, blank = batch
    best = greedy_decode(logits, frames, blank)
    alignment = align(best.tokens, logits, logit_length=frames, blank_index=blank)
    np.testing.assert_allclose(alignment.log_probability, best.log_probability, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(alignment.start, best.start)
    np.testing.assert_array_equal(alignment.end, best.end)
    np.testing.assert_allclose(alignment.confidence, best.confidence, rtol=1e-5)
    np.testing.assert_array_equal(collapse(alignment.path, blank), best.tokens)


@quickly
@given(batches())
def test_the_loss_of_a_certain_path_is_zero(batch):
    labels, _, frames, blank = batch
    path = align(labels, np.zeros((B, T, V), "float32"), logit_length=frames, blank_index=blank).path.numpy()
    possible = (path >= 0).any(axis=1) | (frames == 0) & (labels < 0).all(axis=1)
    sure = np.eye(V, dtype="float32")[np.maximum(path, 0)] * 80
    loss = ctc_loss(labels, sure, logit_length=frames, blank_index=blank).numpy()
    np.testing.assert_allclose(loss[possible], 0, atol=1e-4)
    alignment = align(labels, sure, logit_length=frames, blank_index=blank)
    np.testing.assert_array_equal(alignment.path.numpy(), path)
    held = labels[possible] >= 0
    np.testing.assert_allclose(alignment.confidence.numpy()[possible], held, atol=1e-6)
