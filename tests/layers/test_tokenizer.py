"""Tokenizer: ids and texts, in graphs, in tf.data, in saved models."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.layers import Tokenizer

LETTERS = list("abcdefghijklmnopqrstuvwxyzäöüß -")


def textbook(texts, vocabulary, split):
    """The ids of texts in plain Python, padded."""
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
def test_ids_are_those_of_the_vocabulary(vocabulary, split, texts):
    tokenizer = Tokenizer(vocabulary, split)
    expected = textbook(texts, vocabulary, split)
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
def test_text_gives_back_what_was_read(split):
    texts = ["zwei und zwanzig", "", "a", "ab c"]
    tokenizer = Tokenizer(LETTERS if split == "characters" else ["zwei", "und", "zwanzig", "a", "ab", "c"], split)
    assert [text.decode() for text in tokenizer.text(tokenizer(texts)).numpy()] == texts


def test_special_ids_and_negative_ones_are_nothing():
    characters, words = Tokenizer(["a", "ü"]), Tokenizer(["one", "two"], "spaces")
    ids = np.array([[[2, 4, 1, 5, 3, 0, -1], [-1, 0, 0, 0, 0, 0, 0]]])
    assert characters.text(ids).numpy().tolist() == [["aü".encode(), b""]]
    assert words.text(ids).numpy().tolist() == [[b"one two", b""]]
    assert words.text([5, 4]).numpy() == b"two one"
    assert characters.text(np.zeros((2, 0), "int32")).numpy().tolist() == [b"", b""]


def test_an_empty_batch_and_empty_texts():
    tokenizer = Tokenizer(["a"])
    assert tokenizer(tf.constant([], tf.string)).shape == (0, 0)
    assert tokenizer(["", ""]).shape == (2, 0)
    assert tokenizer("").shape == (0,)


def test_bytes_that_are_no_text_are_one_unknown_each():
    assert Tokenizer(["a"])(tf.constant([b"a\xffa"])).numpy().tolist() == [[4, 1, 4]]


def test_works_in_tf_data():
    tokenizer = Tokenizer(LETTERS)
    data = tf.data.Dataset.from_tensor_slices(["ab", "ünder", ""]).map(tokenizer).padded_batch(3)
    assert next(iter(data)).numpy().tolist() == textbook(["ab", "ünder", ""], LETTERS, "characters")


def test_can_be_made_while_a_graph_is_traced():
    made = []

    @tf.function
    def ids(text):
        made.append(Tokenizer(["a", "b"]))
        return made[0](text)

    assert ids(tf.constant(["ba"])).numpy().tolist() == [[5, 4]]
    assert made[0](["ab"]).numpy().tolist() == [[4, 5]]


def test_is_a_layer_of_a_model_and_saved_with_it(tmp_path):
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


def test_a_signature_keeps_the_vocabulary(tmp_path):
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


def test_configuration_round_trip():
    tokenizer = Tokenizer(["x", "é"], "spaces", name="words")
    twin = Tokenizer.from_config(json.loads(json.dumps(tokenizer.get_config())))
    assert twin.get_config() == tokenizer.get_config()
    assert twin(["é x"]).numpy().tolist() == [[5, 4]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocabulary": []}, "at least one entry"),
        ({"vocabulary": None}, "`vocabulary` must be a list of texts. Received: None"),
        ({"vocabulary": "ab"}, "`vocabulary` must be a list of texts. Received: 'ab'"),
        ({"vocabulary": ["a", ""]}, r"only texts. Received: \[''\]"),
        ({"vocabulary": ["a", 3]}, r"only texts. Received: \[3\]"),
        ({"vocabulary": ["a", "b", "a"]}, "no entry twice. Received twice: 'a'"),
        ({"vocabulary": ["a", "ch"]}, "split into characters gives the entry 'ch'"),
        ({"vocabulary": ["a", "b c"], "split": "spaces"}, "split into spaces gives the entry 'b c'"),
        ({"vocabulary": ["a", "b\n"], "split": "spaces"}, "gives the entry"),
        ({"vocabulary": ["a", " "], "split": "spaces"}, "gives the entry"),
        ({"vocabulary": ["a"], "split": "words"}, "one of characters, spaces. Received: 'words'"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Tokenizer(**arguments)


def test_texts_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\[B\] or \[\]. Received: shape \(1, 1\)"):
        Tokenizer(["a"])([["a"]])
