"""Tests of Seq2Seq: decoding, sampling, saving and serving signatures."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.models.seq2seq import RecurrentDecoder, RecurrentEncoder, Seq2Seq
from keras_dl.ops.special_ids import END, FIRST, START

from .parts import SOURCE, TARGET, shared_model

TEXTS = ["abc", "gfedcba", "d"]
BEAM = {"beam_width": 3, "top_paths": 2}  # the same in all tests, which then share one graph


@pytest.fixture
def model():
    return shared_model("additive")


def log_probabilities(model, text, answers):
    """Log probabilities of answers with their ends, from the teacher-forced logits without the forbidden tokens."""
    labels = np.zeros((len(answers), max(map(len, answers)) + 1), int)
    for row, answer in enumerate(answers):
        labels[row, : len(answer) + 1] = [*answer, END]
    target = np.pad(labels[:, :-1], [[0, 0], [1, 0]], constant_values=START)
    source = np.repeat(SOURCE([text]).numpy(), len(answers), axis=0)
    logits = model({"source": source, "target": np.where(target == END, 0, target)}).numpy()
    logits[:, :, [0, 1, START]] = -np.inf
    each = np.take_along_axis(keras.ops.log_softmax(logits).numpy(), labels[..., None], axis=2)[..., 0]
    return np.where(labels > 0, each, 0).sum(axis=1)


def test_greedy_decoding_takes_the_most_probable_token(model):
    decoded = model.decode(TEXTS, max_length=6)
    for row, text in enumerate(TEXTS):
        tokens = []
        while len(tokens) < 6:
            logits = model({"source": SOURCE([text]).numpy(), "target": np.array([[START, *tokens]])})[0, -1].numpy()
            logits[[0, 1, START]] = -np.inf
            if (token := int(logits.argmax())) == END:
                break
            tokens.append(token)
        assert decoded.tokens[row, 0].numpy().tolist() == tokens + [-1] * (6 - len(tokens))
        assert bool(decoded.finished[row, 0]) == (len(tokens) < 6)


@pytest.mark.parametrize("kind", ["additive", "transformer", "general_deep"])
def test_a_wide_beam_finds_the_best_answers(kind):
    """Compares with all answers of up to 3 tokens."""
    model, search = shared_model(kind), {"beam_width": 90, "top_paths": 5, "length_penalty": 0.0}
    decoded = model.decode(["abc"], max_length=4, **search)
    every = [answer for n in range(4) for answer in itertools.product(range(FIRST, TARGET.size), repeat=n)]
    known = dict(zip(every, log_probabilities(model, "abc", every), strict=True))
    best = sorted(known, key=known.get, reverse=True)[:5]
    finished = np.flatnonzero(decoded.finished[0])
    found = [tuple(int(token) for token in row if token >= 0) for row in decoded.tokens[0].numpy()]
    assert finished.size
    for path in finished:
        assert found[path] in best
        np.testing.assert_allclose(decoded.log_probability[0, path], known[found[path]], atol=1e-4)
    assert model.decode(["abc"], max_length=0, **search).tokens.shape == (1, 5, 0)


@pytest.mark.usefixtures("graphs")
def test_all_sizes_share_one_graph(model, monkeypatch):
    traced, step = [], model.decoder.step
    monkeypatch.setattr(model.decoder, "step", lambda *args: (traced.append(args), step(*args))[1])
    counts = []
    for texts in (TEXTS, ["ab"], []):
        assert len(model.decode(texts, **BEAM, max_length=5, min_length=3).tokens) == len(texts)
        counts.append(len(traced))
    assert counts[0] == counts[2], counts


@pytest.mark.usefixtures("graphs")
def test_rows_are_independent(model):
    together = model.decode(TEXTS, **BEAM, max_length=5)
    for row, text in enumerate(TEXTS):
        alone = model.decode([text], **BEAM, max_length=5)
        np.testing.assert_array_equal(together.tokens[row], alone.tokens[0])
        np.testing.assert_allclose(together.score[row], alone.score[0], atol=1e-5)
        size = len(text)
        np.testing.assert_allclose(together.alignment[row, :, :, :size], alone.alignment[0], atol=1e-5)
        assert not np.any(together.alignment[row, :, :, size:])


def test_sampling(model):
    drawn = model.sample(TEXTS * 2, [1, 2, 3, 1, 2, 4], max_length=8)
    np.testing.assert_array_equal(drawn.tokens[:2], drawn.tokens[3:5])
    assert (drawn.tokens[2].numpy() != drawn.tokens[5].numpy()).any()
    greedy = model.decode(TEXTS * 2, max_length=8).tokens
    for options in ({"temperature": 0.0}, {"top_k": 1}):
        np.testing.assert_array_equal(model.sample(TEXTS * 2, range(6), **options, max_length=8).tokens, greedy)


def test_coverage_penalty_ignores_padding(model):
    options = {"beam_width": 4, "max_length": 5, "coverage_penalty": 0.7}
    together, alone = model.decode(TEXTS, **options), model.decode(TEXTS[:1], **options)
    np.testing.assert_allclose(together.score[0], alone.score[0], atol=1e-5)
    assert together.score[0, 0] < together.log_probability[0, 0]


def test_sources_may_be_texts_or_ids(model):
    ids = SOURCE(TEXTS)
    np.testing.assert_array_equal(model.decode(ids, max_length=4).tokens, model.decode(TEXTS, max_length=4).tokens)
    assert model.decode(tf.constant(["", "a"]), max_length=3).tokens.shape == (2, 1, 3)
    assert model.decode([""], max_length=3).tokens.shape == (1, 1, 3)
    with pytest.raises(ValueError, match=r"Expected texts \[B\] or ids \[B, S\]. Received: float32"):
        model.decode(np.zeros(3, "float32"))


def test_answers_have_no_special_tokens():
    decoded = shared_model("cho").decode(TEXTS, max_length=20)
    tokens = decoded.tokens.numpy()
    assert ((tokens == -1) | (tokens >= FIRST)).all() and decoded.alignment is None


def test_save_and_load(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for one, other in zip(*(each.decode(TEXTS, **BEAM, max_length=5) for each in (model, loaded)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_signatures_in_a_saved_model(model, tmp_path):
    module, signatures = tf.Module(), model.signatures(max_length=5, **BEAM)
    module.model, module.tables = model, [model.source_tokenizer.table]
    functions = {
        name: tf.function(function, input_signature=inputs, autograph=False)
        for name, (function, inputs) in signatures.items()
    }
    tf.saved_model.save(module, str(tmp_path / "1"), functions)
    served = tf.saved_model.load(str(tmp_path / "1")).signatures
    for texts in (TEXTS, ["ab?d"], [""]):
        decoded = model.decode(texts, **BEAM, max_length=5)
        answer = served["serving_default"](text=tf.constant(texts))
        np.testing.assert_array_equal(answer["alternatives"], TARGET.text(decoded.tokens))
        np.testing.assert_array_equal(answer["text"], answer["alternatives"][:, 0])
        np.testing.assert_allclose(answer["score"], decoded.score[:, 0], atol=1e-5)
        longest = max(1, int(decoded.lengths.numpy()[:, 0].max()))
        np.testing.assert_allclose(answer["alignment"], decoded.alignment[:, 0, :longest], atol=1e-5)
    assert answer["unknown"].numpy().tolist() == [0]
    assert served["serving_default"](text=tf.constant(["ab?d", "a"]))["unknown"].numpy().tolist() == [1, 0]
    short = served["bounded"](text=tf.constant(TEXTS), max_length=tf.constant(2))
    np.testing.assert_array_equal(short["alternatives"], TARGET.text(
        model.decode(TEXTS, **BEAM, max_length=2).tokens))  # fmt: skip


def test_bounded_signature_limits_the_length(model):
    signatures = model.signatures(max_length=2, limit=7)
    bounded, _ = signatures["bounded"]
    expected = TARGET.text(model.decode(TEXTS, max_length=7).tokens)
    for length in (7, 8, 2**31 - 1):
        np.testing.assert_array_equal(bounded(tf.constant(TEXTS), tf.constant(length))["alternatives"], expected)
    bounded, _ = model.signatures(max_length=1)["bounded"]
    assert bounded(tf.constant(["a"]), tf.constant(-4))["text"].numpy().tolist() == [b""]
    assert bounded(tf.constant(["a"]), tf.constant(10**6))["alignment"].shape[1] <= 10


def test_max_length_below_one_gives_empty_answers(model):
    for max_length in (0, -1, -5):
        decoded = model.decode(["a"], max_length=max_length)
        assert decoded.tokens.shape == (1, 1, 0) and decoded.lengths.numpy().tolist() == [[0]]


@pytest.mark.usefixtures("graphs")
def test_empty_batches(model):
    for options, paths in (({}, 1), (BEAM, 2)):
        for empty in ([], tf.zeros([0], tf.string), np.zeros([0, 2], int)):
            assert model.decode(empty, max_length=4, **options).tokens.shape == (0, paths, 4)


def test_invalid_arguments(model):
    with pytest.raises(ValueError, match="must have vocabulary=11, the size of its tokenizer. Received: 9"):
        Seq2Seq(SOURCE, TARGET, RecurrentEncoder(9, 4), RecurrentDecoder(TARGET.size, 8))
    for options in ({"top_paths": 2}, {"length_penalty": 0.6}):
        with pytest.raises(ValueError, match="require `beam_width` above 1"):
            model.decode(TEXTS, **options)
    for width in (0, -3, 2.5, True):
        with pytest.raises(ValueError, match=f"`beam_width` must be an integer of at least 1. Received: {width}"):
            model.decode(TEXTS, beam_width=width, top_paths=3)
    for length in (5.5, tf.constant(5.0), 2**40, None, "5"):
        with pytest.raises(ValueError, match="`max_length` must be a 32-bit integer. Received: "):
            model.decode(TEXTS, max_length=length)
    for arguments, message in (
        ({"seed": 1, "top_p": 7.0}, "`top_p` must be above 0 and at most 1. Received: 7.0"),
        ({"seed": 1, "top_p": 0.0}, "`top_p` must be above 0 and at most 1. Received: 0.0"),
        ({"seed": 2**40}, "`seed` must be a 32-bit integer"),
        ({"seed": [1, 2]}, "`seed` must be a scalar or have one value per row, 3"),
    ):
        with pytest.raises(ValueError, match=message):
            model.sample(TEXTS, **arguments)
