"""Tests of SubwordTokenizer: against sentencepiece, against enumerated segmentations, and as a layer."""

import io
import itertools
import json

import keras
import numpy as np
import pytest
import sentencepiece
import tensorflow as tf

from keras_dl.data.builders.number_words import say
from keras_dl.layers import SubwordTokenizer

pytestmark = pytest.mark.usefixtures("graphs")

PIECES, SCORES = ["▁", "a", "b", "c", "ab", "▁ab", "bca"], [-3.0, -2.0, -2.1, -2.2, -3.5, -4.0, -5.0]


def number_texts(language, seed, count=300):
    numbers = np.random.default_rng(seed).integers(0, 10**6, (count, 2))
    return [f"{say(first, language)}, {say(second, language).title()}." for first, second in numbers.tolist()]


@pytest.fixture(scope="module", params=["de", "fr"])
def learned(request):
    """A sentencepiece model, a tokenizer with its pieces, and a language."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(number_texts(request.param, seed=0)),
        model_writer=model,
        model_type="unigram",
        vocab_size=150,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        character_coverage=1.0,
        bos_id=-1,
        eos_id=-1,
        unk_id=0,
        minloglevel=3,
    )
    library = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    ids = range(1, library.get_piece_size())
    tokenizer = SubwordTokenizer([library.id_to_piece(i) for i in ids], [library.get_score(i) for i in ids])
    return library, tokenizer, request.param


def ids_of_sentencepiece(library, texts):
    """Returns the ids of sentencepiece, converted to ours."""
    return [[number + 3 if number else 1 for number in row] for row in library.encode(texts)]


def merged_rows(ids):
    """Returns rows as lists, with adjacent unknown ids merged."""
    rows = [[number for number in row if number] for row in ids.numpy().tolist()]
    return [[n for place, n in enumerate(row) if n != 1 or row[place - 1 : place] != [1]] for row in rows]


def test_matches_sentencepiece(learned):
    library, tokenizer, language = learned
    texts = number_texts(language, seed=1)
    generator = np.random.default_rng(2)
    letters = list("".join(texts[:5])) + list("   ▁\t\n日é€..")
    texts += ["".join(generator.choice(letters, generator.integers(0, 40))) for _ in range(300)]
    ids = tf.function(tokenizer)(tf.constant(texts))
    assert merged_rows(ids) == ids_of_sentencepiece(library, texts)
    pieces = sum(len(row) for row in merged_rows(ids[:300]))
    assert pieces < 0.6 * sum(map(len, texts[:300]))  # characters are merged


def test_text_restores_the_input(learned):
    library, tokenizer, language = learned
    texts = number_texts(language, seed=3)[:50]
    assert [text.decode() for text in tokenizer.text(tokenizer(texts)).numpy()] == texts
    assert [text.decode() for text in tokenizer.text(tokenizer(["  " + texts[0] + " "])).numpy()] == texts[:1]
    assert library.decode(library.encode(texts)) == texts


def best(text):
    """Returns the best of all segmentations of a text without spaces."""
    text = f"▁{text}"
    choices = dict(zip(PIECES, zip(itertools.count(4), SCORES), strict=False))
    found = []
    for cuts in itertools.product([False, True], repeat=len(text) - 1):
        ends = [place + 1 for place, cut in enumerate(cuts) if cut] + [len(text)]
        pieces = [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        if all(piece in choices or len(piece) == 1 for piece in pieces):
            ids, scores = zip(*(choices.get(piece, (1, min(SCORES) - 10)) for piece in pieces), strict=True)
            found.append((sum(scores), list(ids)))
    return max(found)[1]


def test_finds_the_best_of_all_segmentations():
    texts = ["".join(text) for length in range(1, 6) for text in itertools.product("abcx", repeat=length)]
    ids = SubwordTokenizer(PIECES, SCORES)(texts)
    assert [[number for number in row if number] for row in ids.numpy().tolist()] == [best(text) for text in texts]


def test_each_unknown_character_is_counted():
    tokenizer = SubwordTokenizer(PIECES, SCORES)
    assert tokenizer.unknown(["ab", "xx axb", "", "▁", "日本 c"]).numpy().tolist() == [0, 3, 0, 0, 2]
    assert tokenizer.unknown("xx").numpy() == 2


def test_single_empty_and_no_texts():
    tokenizer = SubwordTokenizer(PIECES, SCORES)
    for call in (tokenizer, tf.function(tokenizer)):
        assert call(tf.constant("ab bca")).numpy().tolist() == [9, 4, 10]
        assert call(tf.constant("  ")).shape == (0,)
        assert call(tf.constant(["", "  "])).shape == (2, 0)
        assert call(tf.constant([], tf.string)).shape == (0, 0)
    data = tf.data.Dataset.from_tensor_slices(["ab", "", "c"]).map(tokenizer).padded_batch(3)
    assert next(iter(data)).numpy().tolist() == [[9, 0], [0, 0], [4, 7]]


def test_invalid_bytes_are_unknown():
    assert SubwordTokenizer(PIECES, SCORES)(tf.constant([b"a\xff"])).numpy().tolist() == [[4, 5, 1]]


def test_special_ids_are_skipped():
    tokenizer = SubwordTokenizer(PIECES, SCORES)
    assert tokenizer.text([[2, 9, 1, 4, 7, 3, 0, -1], [-1, 0, 0, 0, 0, 0, 0, 0]]).numpy().tolist() == [b"ab c", b""]
    assert tokenizer.size == 11


def test_is_saved_and_exported_with_its_pieces(tmp_path):
    text = keras.Input((), dtype="string")
    ids = SubwordTokenizer(PIECES, SCORES)(text)
    assert (ids.shape, ids.dtype) == ((None, None), "int32")
    model = keras.Model(text, keras.layers.Embedding(11, 2, embeddings_initializer="normal")(ids))
    texts = tf.constant(["ab x", "bcab"])
    expected = model(texts)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(texts), expected)
    model.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(tmp_path / "exported").signatures["serving_default"]
    np.testing.assert_array_equal(next(iter(served(texts).values())), expected)


def test_config_round_trip():
    tokenizer = SubwordTokenizer(PIECES, SCORES, name="pieces")
    twin = SubwordTokenizer.from_config(json.loads(json.dumps(tokenizer.get_config())))
    assert twin.get_config() == tokenizer.get_config()
    assert twin(["abc"]).numpy().tolist() == tokenizer(["abc"]).numpy().tolist()


@pytest.mark.parametrize(
    ("vocabulary", "scores", "message"),
    [
        ([], [], "at least one entry"),
        (["a"], None, "`scores` must be a list of numbers. Received: None"),
        (["a"], ["x"], r"`scores` must be a list of numbers. Received: \['x'\]"),
        (["a", "a"], [-1.0, -2.0], "must not contain duplicates. Received: 'a'"),
        (["a", "b"], [-1.0], "`scores` must contain one finite number per entry .* Received: 1 numbers for 2 entries"),
        (["a", "b"], [-1.0, float("nan")], "must contain one finite number"),
    ],
)
def test_invalid_arguments_raise_an_error(vocabulary, scores, message):
    with pytest.raises(ValueError, match=message):
        SubwordTokenizer(vocabulary, scores)


def test_byte_fallback_matches_sentencepiece():
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["ab abba baba abab", "ba ab bab a b"] * 20),
        model_writer=model,
        vocab_size=270,
        byte_fallback=True,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    library = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    skipped = sum(library.is_control(i) or library.is_unknown(i) for i in range(library.vocab_size()))
    known = range(skipped, library.vocab_size())
    tokenizer = SubwordTokenizer([library.id_to_piece(i) for i in known], [library.get_score(i) for i in known])
    texts = ["abba ab", "aéb", "日本 ab", "é", "<0xC3>", "a😀", "zz a zz"]
    ids = tokenizer(texts)
    expected = [[i - skipped + 4 for i in row] for row in library.encode(texts)]
    assert [[i for i in row if i] for row in ids.numpy().tolist()] == expected
    assert [tokenizer(text).numpy().tolist() for text in texts] == expected
    assert [text.decode() for text in tokenizer.text(ids).numpy()] == [
        library.decode(row) for row in library.encode(texts)
    ]
    assert not tokenizer.unknown(texts).numpy().any()
    lost = [tokenizer.of_bytes[0xE6], tokenizer.of_bytes[0xFF], *tokenizer("ab").numpy()]  # not UTF-8
    assert "\ufffd" in tokenizer.text(lost).numpy().decode()
    with pytest.raises(ValueError, match="all 256 bytes or of none. Received: 255 are missing, such as <0x00>"):
        SubwordTokenizer(["a", "<0x41>"], [-1.0, 0.0])


def test_ids_of_unequal_length_are_texts():
    tokenizer = SubwordTokenizer(["▁", "a", "b"], [-1.0, -2.0, -3.0])
    for ids in ([[4, 5, 6], [6]], tf.ragged.constant([[4, 5, 6], [6]])):
        assert tokenizer.text(ids).numpy().tolist() == [b"ab", b"b"]


@pytest.mark.parametrize("of_bytes", [False, True])
def test_a_batch_of_empty_texts_has_no_ids(of_bytes):
    pieces = ["▁", "a", *([f"<0x{byte:02X}>" for byte in range(256)] if of_bytes else [])]
    tokenizer = SubwordTokenizer(pieces, [-1.0] * len(pieces))
    ids = tokenizer(["", " "])
    assert ids.shape == (2, 0) and tokenizer.text(ids).numpy().tolist() == [b"", b""]
    assert tokenizer("").shape == (0,)
