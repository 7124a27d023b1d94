import functools
import gc
import itertools
import weakref

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.ctc import Lexicon, align, beam_search_decode, certain_blank
from keras_dl.ops.ctc.beam_search import _program, _programs
from keras_dl.ops.ngram import kneser_ney

from .textbook import collapse, log_softmax, prefix_beam_search


@functools.cache
def graph_of(classes, spans=False, **options):
    """Returns the decoder in a graph with unknown shapes, traced once; without spans it is traced faster."""
    signature = [tf.TensorSpec([None, None, classes], tf.float64), tf.TensorSpec([None], tf.int32)]

    def decode(logits, lengths):
        best = beam_search_decode(logits, logit_length=lengths, **options)
        return best if spans else best._replace(start=None, end=None, confidence=None)

    return tf.function(decode, input_signature=signature, autograph=False)


def assert_equal_to_textbook(best, row, expected, tolerance=1e-9):
    """Checks that the hypotheses of a row match the textbook, followed by hypotheses without tokens."""
    for place in range(best.tokens.shape[1]):
        prefix, score = expected[place] if place < len(expected) else ((), -1e30)
        tokens = best.tokens[row, place].numpy().tolist()
        assert tokens == [*prefix, *[-1] * (len(tokens) - len(prefix))]
        np.testing.assert_allclose(best.score[row, place], score, rtol=max(tolerance, 1e-7), atol=tolerance)


@pytest.mark.parametrize(("classes", "width", "blank"), [(1, 3, 0), (3, 3, 0), (6, 40, 5), (24, 6, 7)])
def test_hypotheses_match_the_textbook(classes, width, blank):
    """Flat, normal and peaky posteriors, any length, fewer prefixes than the width; NaN in padding."""
    generator = np.random.default_rng(classes)
    decode = graph_of(classes, spans=classes == 6, beam_width=width, top_paths=width, blank_index=blank)
    for scale in (0.1, 1, 1, 20):
        logits = generator.normal(0, scale, (6, 12, classes))
        lengths = np.array([12, 0, 1, 3, 7, 12], "int32")
        padded = np.where(np.arange(12)[:, None] < lengths[:, None, None], logits, np.nan)
        best = decode(padded, lengths)
        np.testing.assert_array_equal(best.score, best.log_probability)
        for row, length in enumerate(lengths):
            assert_equal_to_textbook(best, row, prefix_beam_search(logits[row, :length], width, blank))


def test_a_returning_prefix_is_recognized_as_parent():
    """Three prefixes over two tokens: parents leave the beam and return while their extensions stay."""
    generator = np.random.default_rng(0)
    decode = graph_of(3, beam_width=3, top_paths=3, blank_index=0)
    logits = generator.normal(0, 1.5, (60, 30, 3))
    best = decode(logits, np.full(60, 30, "int32"))
    for row in range(60):
        assert_equal_to_textbook(best, row, prefix_beam_search(logits[row], 3, 0))


def test_a_beam_of_all_prefixes_sums_over_all_paths():
    logits = np.random.default_rng(1).normal(0, 1, (1, 2, 6))
    best = graph_of(6, spans=True, beam_width=40, top_paths=40, blank_index=5)(logits, np.array([2], "int32"))
    scores = {}
    logp = log_softmax(logits[0])
    for path in itertools.product(range(6), repeat=2):
        tokens = tuple(collapse(path, 5))
        scores[tokens] = np.logaddexp(scores.get(tokens, -np.inf), logp[np.arange(2), path].sum())
    assert_equal_to_textbook(best, 0, sorted(scores.items(), key=lambda item: -item[1]))


def test_an_eager_call_agrees_with_the_graph():
    generator = np.random.default_rng(2)
    logits = generator.normal(0, 2, (3, 12, 6)).astype("float32")
    lengths = np.array([12, 9, 0], "int32")
    logits[1, 9:] = np.nan
    options = {"beam_width": 40, "top_paths": 5, "blank_index": 5}
    best = beam_search_decode(logits, logit_length=lengths, **options)
    graph = graph_of(6, spans=True, beam_width=40, top_paths=40, blank_index=5)(logits.astype("float64"), lengths)
    assert (best.score.dtype, best.tokens.shape) == (tf.float32, (3, 5, 12))
    for name, ours, theirs in zip(best._fields, best, graph, strict=True):
        np.testing.assert_allclose(ours, theirs[:, :5], rtol=1e-5, atol=1e-5, err_msg=name)
    for place in (0, 2, 4):
        aligned = align(best.tokens[:, place], logits, logit_length=lengths, blank_index=5)
        for field in ("start", "end", "confidence"):
            np.testing.assert_array_equal(getattr(best, field)[:, place], getattr(aligned, field))
    assert (best.start.numpy() >= 0).tolist() == (best.tokens.numpy() >= 0).tolist()
    # Fewer frames are padded to the same length; half precision is computed in float32.
    cut = beam_search_decode(tf.cast(logits[:, :9], tf.bfloat16), logit_length=tf.minimum(lengths, 9), **options)
    assert (cut.score.dtype, cut.tokens.shape) == (tf.float32, (3, 5, 9))


def test_compiled_searches_release_lexicon_and_model():
    logits = np.zeros((1, 1, 3), "float32")
    lexicon, model = Lexicon(["ab"], ["a", "b"], separator=None), kneser_ney([["ab"]], order=1)
    for _ in range(2):
        best = beam_search_decode(logits, 1, lexicon=lexicon, language_model=model)
        assert best.tokens.numpy().tolist() == [[[-1]]]
    assert len(_programs[lexicon]) == 1
    program = _program(lexicon, model)
    assert program.experimental_get_tracing_count() == 1
    # First the model is deleted, then the lexicon.
    of_model, of_lexicon = weakref.ref(model), weakref.ref(lexicon)
    del model, program
    gc.collect()
    assert of_model() is None and len(_programs[lexicon]) == 0
    del lexicon
    gc.collect()
    assert of_lexicon() is None


def test_certain_blanks_emit_no_tokens():
    """The options are NumPy integers, which are accepted too."""
    options = {"blank_index": np.int64(0), "beam_width": np.int32(9), "top_paths": np.int64(6)}
    decode = tf.function(lambda logits: beam_search_decode(logits, **options), autograph=False)
    for dtype in ("float16", "float32"):
        logits = tf.cast([[[1.0, 2, 3], [9, 9, 9], [9, 9, 9]]], dtype)
        logits = certain_blank(logits, tf.constant([[True, False, False]]))
        best = decode(tf.cast(logits, "float32"))  # the search computes float16 in float32
        assert best.tokens[0, :, 0].numpy().tolist() == [2, 1, -1, -1, -1, -1]
        assert (best.tokens[0, :, 1:].numpy() == -1).all()
        assert (best.score[0].numpy() > -1e20).tolist() == [True] * 3 + [False] * 3
        np.testing.assert_allclose(np.exp(best.score[0, :3]).sum(), 1, rtol=1e-5)


def test_exports_contain_only_stock_operations(tmp_path):
    lexicon = Lexicon(["ab", "ba"], ["a", "b", " "])
    model = kneser_ney([["ab", "ba"], ["ba"]], order=2)

    class Decoder(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None, 4])], autograph=False)
        def __call__(self, logits):
            plain = beam_search_decode(logits, 4)
            fused = beam_search_decode(logits, 4, lexicon=lexicon, language_model=model)
            return {"plain": plain, "fused": fused}

    decoder = Decoder()
    tf.saved_model.save(decoder, tmp_path)
    restored = tf.saved_model.load(tmp_path)
    for frames in (0, 9):
        logits = tf.random.stateless_normal([2, frames, 4], [frames, 1])
        for ours, theirs in zip(*map(tf.nest.flatten, (decoder(logits), restored(logits))), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    graph = decoder.__call__.get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    assert len(nodes) > 100
    assert not {node.op for node in nodes} & {"PyFunc", "EagerPyFunc", "PyFuncStateless", "XlaLaunch"}
    attributes = [
        *(node.attr for node in nodes),
        *(function.attr for function in graph.library.function),
    ]
    assert not any(attribute["_XlaMustCompile"].b for attribute in attributes if "_XlaMustCompile" in attribute)


def test_invalid_arguments_raise():
    logits = np.zeros((2, 3, 4), "float32")
    with pytest.raises(ValueError, match="`top_paths` must be an integer from 1 to 5. Received: 9"):
        beam_search_decode(logits, beam_width=5, top_paths=9)
    for options in (
        {"beam_width": 2.5},
        {"beam_width": 0},
        {"top_paths": 0},
        {"blank_index": -1},
        {"blank_index": 0.0},
    ):
        (name, value), *_ = options.items()
        with pytest.raises(
            ValueError, match=f"`{name}` must be an integer (of at least [01]|from 1 to 100). Received: {value}"
        ):
            beam_search_decode(logits, **options)
    with pytest.raises(ValueError, match="`blank_index` must be a class from 0 to 3. Received: 4"):
        beam_search_decode(logits, blank_index=4)
    with pytest.raises(ValueError, match="row 1: 4"):
        beam_search_decode(logits, logit_length=[3, 4])
    with pytest.raises(ValueError, match="row 0: NaN.* in frame 2"):
        beam_search_decode(np.where(np.arange(3)[:, None] == 2, np.nan, logits), beam_width=2)
    with pytest.raises(
        ValueError, match="The lexicon must have 4 classes, like the logits, and blank 0. Received: 3 classes"
    ):
        beam_search_decode(logits, lexicon=Lexicon(["ab"], ["a", "b"], separator=None))
    with pytest.raises(ValueError, match="`lexicon` must be an instance of `Lexicon` or None. Received: \\['a'\\]"):
        beam_search_decode(logits, lexicon=["a"])
    with pytest.raises(ValueError, match="`language_model` must be an instance of `NGram` or None. Received: 'x.arpa'"):
        beam_search_decode(logits, language_model="x.arpa")
    for name in ("lm_weight", "word_bonus"):
        with pytest.raises(ValueError, match=f"`{name}` must be finite. Received: nan"):
            beam_search_decode(logits, **{name: float("nan")})
    with pytest.raises(ValueError, match="`vocabulary` must contain 3 labels. Received: 2"):
        beam_search_decode(logits, word_bonus=1.0, vocabulary=["a", "b"])
    model = kneser_ney([["ab"]], order=1)
    with pytest.raises(ValueError, match="contains none of the labels. Received: \\['a', 'b', 'c'\\]"):
        tf.function(beam_search_decode, autograph=False)(logits, language_model=model, vocabulary=["a", "b", "c"])
    words = Lexicon(["a", "ba"], ["a", "b", " "])
    with pytest.raises(ValueError, match="contains none of the words of the lexicon. Received: \\['a', 'ba'\\]"):
        tf.function(beam_search_decode, autograph=False)(logits, lexicon=words, language_model=model)
    with pytest.raises(ValueError, match="Received: neither"):
        beam_search_decode(logits, language_model=model)
    with pytest.raises(ValueError, match="`vocabulary` must contain 3 labels. Received: 2"):
        beam_search_decode(logits, language_model=model, vocabulary=["a", "b"])
