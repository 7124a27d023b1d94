import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.ngram import Entries, NGram, kneser_ney
from keras_dl.ops.ngram import model as module

from .textbook import backed_off, random_model


@pytest.fixture(params=["dense", "sparse"])
def tables(request, monkeypatch):
    """Uses dense and sparse tables; small models are dense by default."""
    if request.param == "sparse":
        monkeypatch.setattr(module, "DENSE_PAIRS", 0)
    return request.param


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_steps_match_the_textbook(order, tables):
    for seed in range(3):
        generator = np.random.default_rng([order, seed])
        words, entries, listed, backoff = random_model(generator, order)
        model = NGram(words, entries)
        assert (model._dense is not None) == (tables == "dense")
        histories = [["<s>"] for _ in range(40)]
        states = np.full(40, model.initial_state, np.int32)
        for _ in range(6):
            tokens = generator.integers(0, len(words), 40)
            context = [tuple(history[max(len(history) - order + 1, 0) :]) for history in histories]
            expected = [backed_off(listed, backoff, c, words[token]) for c, token in zip(context, tokens, strict=True)]
            ends = [backed_off(listed, backoff, c, "</s>") for c in context]
            np.testing.assert_allclose(model.finish(states), ends, rtol=1e-5, atol=1e-5)
            found, states = model.step(states, tokens)
            assert (found.dtype, states.dtype) == ("float32", "int32")
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
            for history, token in zip(histories, tokens, strict=True):
                history.append(words[token])


def test_shapes_broadcast_in_graph_under_xla_and_exported(tables, tmp_path):
    words, entries, *_ = random_model(np.random.default_rng(1), 3)
    model = NGram(words, entries)
    states = np.random.default_rng(2).integers(0, model.entries[0].grams.shape[0], (2, 3, 1)).astype("int32")
    tokens = np.arange(len(words), dtype="int32")
    each = [
        [model.step(int(state), int(token)) for state, token in np.broadcast(row, tokens)]
        for row in states.reshape(6, 1, 1)
    ]
    expected = [np.reshape([[pair[i] for pair in row] for row in each], (2, 3, len(words))) for i in range(2)]
    signature = [tf.TensorSpec([None, None, 1], tf.int32), tf.TensorSpec([None], tf.int32)]
    graph = tf.function(model.step, input_signature=signature)
    holder = tf.Module()
    holder.step = graph
    tf.saved_model.save(holder, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path)).step
    for step in (model.step, graph, tf.function(model.step, jit_compile=True), loaded):
        for found, values in zip(step(tf.constant(states), tf.constant(tokens)), expected, strict=True):
            np.testing.assert_allclose(found, values, rtol=1e-6)


def test_score_adds_up_the_steps_of_each_sentence():
    words, entries, listed, backoff = random_model(np.random.default_rng(3), 3)
    model = NGram(words, entries)
    sentences = [["a", "b", "a"], [], ["d"], ["b", "somebody", "c", "c", "a"]]
    expected = []
    for sentence in sentences:
        line = ["<s>", *(word if word in words else "<unk>" for word in sentence), "</s>"]
        expected.append(
            sum(backed_off(listed, backoff, tuple(line[max(i - 2, 0) : i]), line[i]) for i in range(1, len(line)))
        )
    np.testing.assert_allclose(model.score(sentences), expected, rtol=1e-5)
    assert model.score(sentences).dtype == "float64"
    assert model.perplexity(sentences) == pytest.approx(np.exp(-np.sum(expected) / (3 + 0 + 1 + 5 + 4)), rel=1e-5)
    assert model.score([]).shape == (0,)
    for measure in (model.score, model.perplexity):
        with pytest.raises(ValueError, match="must be lists of words. Received: a str as sentence 2"):
            measure([["a"], "a b"])
    with pytest.raises(ValueError, match="at least one sentence. Received: none"):
        model.perplexity([])


def test_unknown_words_have_the_index_of_unk():
    model = NGram(*random_model(np.random.default_rng(4), 2)[:2])
    np.testing.assert_array_equal(model.ids(["a", "z", "</s>", "<unk>"]), [3, 0, 2, 0])
    assert model.ids([]).shape == (0,)


def test_ten_thousand_words():
    """Large models have no table of all states and words."""
    generator = np.random.default_rng(5)
    words = [f"w{i}" for i in range(10_000)]
    sentences = [[words[i] for i in generator.zipf(1.3, 12) % 10_000] for _ in range(5000)]
    model = kneser_ney(sentences, order=3, vocabulary=words)
    assert model._dense is None
    states = generator.integers(0, len(model._suffix), 3).astype("int32")
    log_probability, _ = model.step(states[:, None], np.arange(len(model.vocabulary)))
    np.testing.assert_allclose(np.exp(log_probability).sum(axis=1), 1, rtol=1e-4)


ONE = Entries(np.arange(4)[:, None], np.full(4, -1.0), np.zeros(4))
WORDS = ["<unk>", "<s>", "</s>", "a"]


@pytest.mark.parametrize(
    ("words", "entries", "message"),
    [
        (["<unk>", "<s>", "a", "b"], [ONE], r"without \['</s>'\]"),
        ([*WORDS[:3], "<s>"], [ONE], "no duplicates"),
        ([*WORDS, "b"], [ONE], "each of the 5 words once"),
        (WORDS, [ONE, Entries([[1, 3], [1, 3]], [-1, -2], [0, 0])], "listed only once. Received: '<s> a' twice"),
        (WORDS, [ONE, Entries([[1, 3]], [-1], [0]), Entries([[3, 3, 2]], [-1], [0])], "the context of 'a a </s>'"),
    ],
)
def test_invalid_models_raise(words, entries, message):
    entries = [Entries(*(np.array(v) for v in (e.grams, e.log_probability, e.backoff))) for e in entries]
    with pytest.raises(ValueError, match=message):
        NGram(words, entries)
