"""Tests of Tokenizer: ids and texts, in graphs, tf.data and saved models."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.layers import Tokenizer

pytestmark = pytest.mark.usefixtures("graphs")

LETTERS = list("abcdefghijklmnopqrstuvwxyzäöüß -")


def expected_ids(texts, vocabulary, split):
    """Computes padded ids in plain Python."""
    numbers = {entry: number for number, entry in enumerate(vocabulary, start=4)}
    rows = [[numbers.get(s, 1) for s in (text.split() if split == "spaces" else text)] for text in texts]
    width = max(map(len, rows), default=0)
    return [row + [0] * (width - len(row)) for row in rows]


@pytest.mark.parametrize(
    ("vocabulary", "split", "texts"),
    [
        (LETTERS, "characters", ["dreiundzwanzig", "fünf", "", "naïve €uro", "日本"]),
        (["AH", "B", "K"], "spaces", ["B AH K", "  K\tZH \n AH ", "", "   ", "é"]),
    ],
)
def test_ids_match_the_vocabulary(vocabulary, split, texts):
    tokenizer = Tokenizer(vocabulary, split)
    expected = expected_ids(texts, vocabulary, split)
    ids = tokenizer(texts)
    assert ids.dtype == tf.int32
    assert ids.numpy().tolist() == expected
    assert tf.function(tokenizer)(tf.constant(texts)).numpy().tolist() == expected
    for text, row in zip(texts, expected, strict=True):
        assert tokenizer(tf.constant(text)).numpy().tolist() == [number for number in row if number]
    assert tokenizer.unknown(texts).numpy().tolist() == [row.count(1) for row in expected]
    assert tokenizer.unknown(texts[0]).numpy() == expected[0].count(1)
    assert tokenizer.size == len(vocabulary) + 4


@pytest.mark.parametrize("split", ["characters", "spaces"])
def test_text_restores_the_input(split):
    texts = ["zwei und zwanzig", "", "a", "ab c"]
    tokenizer = Tokenizer(LETTERS if split == "characters" else ["zwei", "und", "zwanzig", "a", "ab", "c"], split)
    assert [text.decode() for text in tokenizer.text(tokenizer(texts)).numpy()] == texts


def test_special_and_negative_ids_are_skipped():
    characters, words = Tokenizer(["a", "ü"]), Tokenizer(["one", "two"], "spaces")
    ids = np.array([[[2, 4, 1, 5, 3, 0, -1], [-1, 0, 0, 0, 0, 0, 0]]])
    assert characters.text(ids).numpy().tolist() == [["aü".encode(), b""]]
    assert words.text(ids).numpy().tolist() == [[b"one two", b""]]
    assert words.text([5, 4]).numpy() == b"two one"
    assert characters.text(np.zeros((2, 0), "int32")).numpy().tolist() == [b"", b""]


def test_empty_batches_and_texts():
    tokenizer = Tokenizer(["a"])
    assert tokenizer(tf.constant([], tf.string)).shape == (0, 0)
    assert tokenizer(["", ""]).shape == (2, 0)
    assert tokenizer("").shape == (0,)


def test_each_invalid_byte_is_one_unknown_id():
    assert Tokenizer(["a"])(tf.constant([b"a\xffa"])).numpy().tolist() == [[4, 1, 4]]


def test_works_in_tf_data():
    tokenizer = Tokenizer(LETTERS)
    data = tf.data.Dataset.from_tensor_slices(["ab", "ünder", ""]).map(tokenizer).padded_batch(3)
    assert next(iter(data)).numpy().tolist() == expected_ids(["ab", "ünder", ""], LETTERS, "characters")


def test_can_be_created_while_a_graph_is_traced():
    created = []

    @tf.function
    def ids(text):
        created.append(Tokenizer(["a", "b"]))
        return created[0](text)

    assert ids(tf.constant(["ba"])).numpy().tolist() == [[5, 4]]
    assert created[0](["ab"]).numpy().tolist() == [[4, 5]]


def test_is_saved_and_exported_with_a_model(tmp_path):
    text = keras.Input((), dtype="string")
    ids = Tokenizer(["a", "ü", "c"], name="ids")(text)
    assert (ids.shape, ids.dtype) == ((None, None), "int32")
    model = keras.Model(text, keras.layers.Embedding(7, 2, embeddings_initializer="normal")(ids))
    texts = tf.constant(["aüx", "c"])
    expected = model(texts)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(texts), expected)
    model.export(tmp_path / "exported", verbose=False)
    served = tf.saved_model.load(tmp_path / "exported").signatures["serving_default"]
    np.testing.assert_array_equal(next(iter(served(texts).values())), expected)


def test_a_signature_contains_the_vocabulary(tmp_path):
    class Reader(tf.Module):
        def __init__(self):
            super().__init__()
            self.tokenizer = Tokenizer(["yes", "no"], "spaces")

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def read(self, text):
            ids = self.tokenizer(text)
            return {"ids": ids, "text": self.tokenizer.text(ids), "unknown": self.tokenizer.unknown(text)}

    module = Reader()
    tf.saved_model.save(module, tmp_path, signatures=module.read)
    answer = tf.saved_model.load(tmp_path).signatures["serving_default"](tf.constant(["no maybe yes"]))
    assert answer["ids"].numpy().tolist() == [[5, 1, 4]]
    assert (answer["text"].numpy().tolist(), answer["unknown"].numpy().tolist()) == ([b"no yes"], [1])


def test_config_round_trip():
    tokenizer = Tokenizer(["x", "é"], "spaces", name="words")
    twin = Tokenizer.from_config(json.loads(json.dumps(tokenizer.get_config())))
    assert twin.get_config() == tokenizer.get_config()
    assert twin(["é x"]).numpy().tolist() == [[5, 4]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocabulary": []}, "at least one entry"),
        ({"vocabulary": None}, "`vocabulary` must be a list of strings. Received: None"),
        ({"vocabulary": "ab"}, "`vocabulary` must be a list of strings. Received: 'ab'"),
        ({"vocabulary": ["a", ""]}, r"only non-empty strings. Received: \[''\]"),
        ({"vocabulary": ["a", 3]}, r"only non-empty strings. Received: \[3\]"),
        ({"vocabulary": ["a", "b", "a"]}, "must not contain duplicates. Received: 'a'"),
        ({"vocabulary": ["a", "ch"]}, "one symbol for split='characters'. Received: 'ch'"),
        ({"vocabulary": ["a", "b c"], "split": "spaces"}, "one symbol for split='spaces'. Received: 'b c'"),
        ({"vocabulary": ["a", "b\n"], "split": "spaces"}, "must be one symbol"),
        ({"vocabulary": ["a", " "], "split": "spaces"}, "must be one symbol"),
        ({"vocabulary": ["a"], "split": "words"}, "one of characters, spaces. Received: 'words'"),
    ],
)
def test_invalid_arguments_raise_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        Tokenizer(**arguments)


def test_texts_of_the_wrong_shape_raise_an_error():
    with pytest.raises(ValueError, match=r"\[B\] or \[\]. Received: shape \(1, 1\)"):
        Tokenizer(["a"])([["a"]])


def test_ids_of_unequal_length_are_texts():
    tokenizer = Tokenizer(["a", "b"])
    for ids in ([[4, 5], [5]], tf.ragged.constant([[4, 5], [5]])):
        assert tokenizer.text(ids).numpy().tolist() == [b"ab", b"b"]
