import functools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from keras_dl.ops.ctc import Lexicon, beam_search_decode, greedy_decode
from keras_dl.ops.ctc.streaming import StreamingBeamSearch, StreamingGreedy
from keras_dl.ops.ngram import kneser_ney

LABELS = [" ", "a", "b"]
FRAMES = 24
GREEDY = StreamingGreedy(blank_index=2)


@functools.cache
def options_of(fused):
    if not fused:
        return {"beam_width": 7, "blank_index": 2}
    model = kneser_ney([["a", "ab"], ["b", "a"], ["ab", "b", "ba"]], order=2)
    lexicon = Lexicon(["a", "ab", "ba", "b"], LABELS, blank_index=2)
    return {"beam_width": 7, "blank_index": 2, "lexicon": lexicon, "language_model": model, "word_bonus": 0.5}


@functools.cache
def whole_of(fused):
    signature = [tf.TensorSpec([None, FRAMES, 4]), tf.TensorSpec([None], tf.int32)]
    options = options_of(fused)

    def decode(logits, lengths):
        return beam_search_decode(logits, logit_length=lengths, **options)[:3]

    return tf.function(decode, input_signature=signature, autograph=False)


@functools.cache
def streaming_of(fused):
    """Returns a decoder, and its step in a graph with unknown shapes, traced once."""
    decoder = StreamingBeamSearch(4, **options_of(fused))
    specs = tf.nest.map_structure(lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype), decoder.initial_state(1))
    specs = specs._replace(tail=tf.TensorSpec([None, 7, None], tf.int32))
    signature = [tf.TensorSpec([None, None, 4]), specs, tf.TensorSpec([None], tf.int32)]
    return decoder, tf.function(decoder.step, input_signature=signature, autograph=False)


def decode_in_chunks(step, state, logits, lengths, sizes):
    """Returns all tokens of each row and the last state. A row may have none or some of the frames of a chunk."""
    at = 0
    tokens = [[] for _ in logits]
    for size in [*sizes, FRAMES]:
        chunk = logits[:, at : at + size].copy()
        length = np.clip(lengths - at, 0, chunk.shape[1])
        chunk[np.arange(chunk.shape[1]) >= length[:, None]] = np.nan
        state, final = step(chunk, state, length.astype("int32"))
        at += size
        for row, new in zip(tokens, final.numpy().tolist(), strict=True):
            row += [token for token in new if token >= 0]
    return tokens, state


def random_rows(seed):
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, generator.choice([0.3, 2, 8]), (3, FRAMES, 4)).astype("float32")
    return logits, np.array([FRAMES, *generator.integers(0, FRAMES + 1, 2)])


CUTS = {"seed": st.integers(0, 10**6), "sizes": st.lists(st.integers(0, 9), max_size=9)}


@pytest.mark.parametrize("fused", [False, True])
@settings(max_examples=10, deadline=None, derandomize=True, phases=[Phase.generate])
@given(**CUTS)
def test_chunks_of_a_beam_search_give_the_result_of_the_whole(fused, seed, sizes):
    logits, lengths = random_rows(seed)
    tokens, log_probability, score = whole_of(fused)(logits, lengths.astype("int32"))
    decoder, step = streaming_of(fused)
    found, state = decode_in_chunks(step, decoder.initial_state(3), logits, lengths, sizes)
    rest, *scores = decoder.finish(state)
    for row in range(3):
        complete = found[row] + [token for token in rest[row].numpy().tolist() if token >= 0]
        assert complete == [token for token in tokens[row, 0].numpy().tolist() if token >= 0]
    np.testing.assert_allclose(scores, [log_probability[:, 0], score[:, 0]], rtol=1e-5, atol=1e-5)


@settings(max_examples=10, deadline=None, derandomize=True, phases=[Phase.generate])
@given(**CUTS)
def test_chunks_of_the_best_path_give_the_result_of_the_whole(seed, sizes):
    logits, lengths = random_rows(seed)
    logits = np.round(logits)  # repeats across chunks
    best = greedy_decode(logits, lengths, blank_index=2)
    found, state = decode_in_chunks(GREEDY.step, GREEDY.initial_state(3), logits, lengths, sizes)
    assert found == [[token for token in row if token >= 0] for row in best.tokens.numpy().tolist()]
    np.testing.assert_allclose(GREEDY.finish(state), best.log_probability, rtol=1e-5, atol=1e-5)


def test_the_state_does_not_grow_frame_by_frame():
    path = np.tile([0, 2, 1, 1, 2, 3, 2, 2], 15)
    # With increasing uncertainty, the beam soon consists of prefixes that differ only at the end.
    logits = np.eye(4, dtype="float32")[path][None] * np.linspace(14, 4, len(path), dtype="float32")[:, None]
    decoder = StreamingBeamSearch(4, beam_width=5, blank_index=2)
    state, tokens = decoder.initial_state(1), []
    for time in range(len(path)):
        state, final = decoder.step(logits[:, time : time + 1], state)
        tokens += [token for token in final[0].numpy().tolist() if token >= 0]
        assert state.tail.shape[2] < 20  # of 45 tokens
    assert len(tokens) > 25
    tokens += decoder.finish(state)[0][0].numpy().tolist()
    assert tokens == [0, 1, 3] * 15


def test_invalid_options_raise():
    for options in ({"beam_width": 0}, {"beam_width": 2.5}, {"classes": 0}, {"blank_index": 4}, {"blank_index": -1}):
        (name, value), *_ = options.items()
        with pytest.raises(ValueError, match=f"`{name}` must be an integer .*Received: {value}"):
            StreamingBeamSearch(**{"classes": 4, **options})
    with pytest.raises(ValueError, match="`blank_index` must be an integer .*Received: 0.5"):
        StreamingGreedy(0.5)
    with pytest.raises(ValueError, match="`word_bonus` must be finite"):
        StreamingBeamSearch(4, word_bonus=float("nan"))
    assert StreamingBeamSearch(np.int64(4), blank_index=np.int64(1)).initial_state(2).tail.shape == (2, 32, 0)


def test_chunks_that_do_not_match_the_state_raise():
    for decoder, classes in ((StreamingBeamSearch(4), "4 classes"), (StreamingGreedy(6), "class of the blank, 6")):
        with pytest.raises(ValueError, match=rf"{classes}.*Received: shape \(2, 3, 5\)"):
            decoder.step(np.zeros((2, 3, 5)), decoder.initial_state(2))
        with pytest.raises(ValueError, match=r"batch size of the state, 3. Received: shape \(1, 3, 8\)"):
            decoder.step(np.zeros((1, 3, 8)), decoder.initial_state(3))
        with pytest.raises(ValueError, match=r"shape \[B, T, V\]"):
            decoder.step(np.zeros((3, 4)), decoder.initial_state(3))
    decoder, step = streaming_of(False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="the same batch size"):
        step(np.zeros((1, 3, 4), "float32"), decoder.initial_state(3), [3, 3, 3])


def test_invalid_chunks_raise():
    decoder = StreamingBeamSearch(4)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Logit lengths must be from 0 to"):
        decoder.step(np.zeros((2, 2, 4)), decoder.initial_state(2), np.array([1, 3]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="must not be NaN"):
        StreamingGreedy().step(np.array([[[0.0, 1]], [[0, np.nan]]]), StreamingGreedy().initial_state(2))
