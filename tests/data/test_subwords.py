"""Tests of learn_subwords."""

import re

import pytest

from keras_dl.data.builders.number_words import say
from keras_dl.data.subwords import learn_subwords
from keras_dl.errors import UserError
from keras_dl.layers import SubwordTokenizer

TEXTS = [say(number, "de") for number in range(0, 3000, 7)]


def test_pieces_cover_the_texts_and_combine_characters():
    pieces, scores = learn_subwords(TEXTS, size=100)
    assert 50 < len(pieces) == len(scores) <= 100
    assert set("".join(TEXTS)) <= set(pieces)
    assert all(score < 0 for score in scores)
    tokenizer = SubwordTokenizer(pieces, scores)
    assert tokenizer.unknown(TEXTS).numpy().sum() == 0
    assert {"hundert", "und", "tausend"} & {piece.strip("▁") for piece in pieces}


def test_equal_texts_give_equal_pieces():
    learned = learn_subwords(TEXTS, size=60)
    assert learn_subwords([text.encode() for text in TEXTS], size=60) == learned
    assert learn_subwords(iter([*TEXTS, "", "  "]), size=60) == learned
    assert learn_subwords(TEXTS[:200], size=60) != learned


def test_size_is_an_upper_bound():
    assert 2 < len(learn_subwords(["ab ab", "abc ab"], size=1000)[0]) < 20


@pytest.mark.parametrize("texts", [[], ["", "  "]])
def test_texts_are_required(texts):
    with pytest.raises(UserError, match="there is no text to learn subwords from"):
        learn_subwords(texts, size=10)


def test_size_must_not_be_below_the_number_of_characters():
    message = r"cannot learn 5 subwords .*: each character is a piece, so the size must be at least \d+$"
    with pytest.raises(UserError, match=message) as caught:
        learn_subwords(TEXTS, size=5)
    least = int(re.search(r"at least (\d+)", str(caught.value))[1])
    assert len(learn_subwords(TEXTS, least)[0]) == least
    with pytest.raises(UserError, match="each character is a piece"):
        learn_subwords(TEXTS, least - 1)
