"""Tests of vocabularies."""

import pytest

from keras_dl.data import load
from keras_dl.data.vocabulary import characters, symbols
from keras_dl.layers import Tokenizer

TEXTS = ["über 3 Äpfel", "a\u00a0b  c\t\na", "", "日本 a"]


@pytest.mark.parametrize("encoded", [False, True])
def test_vocabularies_cover_their_texts(encoded):
    texts = [text.encode() for text in TEXTS] if encoded else TEXTS
    for find, split in ((characters, "characters"), (symbols, "spaces")):
        vocabulary = find(texts)
        assert vocabulary == sorted(set(vocabulary)) == find(reversed(texts))
        assert Tokenizer(vocabulary, split).unknown(texts).numpy().tolist() == [0] * len(texts)


def test_symbols_are_separated_by_ascii_whitespace():
    assert symbols(TEXTS) == ["3", "a", "a\u00a0b", "c", "Äpfel", "über", "日本"]
    assert symbols(TEXTS, at_least=2) == ["a"]
    assert symbols([]) == characters([]) == characters([""]) == []


def test_characters_of_a_data_set():
    texts = [example["source"] for example in load("number_words", largest=1000).train.as_numpy_iterator()]
    assert set("einhuderzwgüß") <= set(characters(texts)) < set("abcdefghijklmnopqrstuvwxyzäöüß")
