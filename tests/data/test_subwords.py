"""learn_subwords: what sentencepiece learns, and what it cannot learn."""

import re

import pytest

from keras_dl.data.builders.number_words import say
from keras_dl.data.subwords import learn_subwords
from keras_dl.errors import UserError
from keras_dl.layers import SubwordTokenizer

TEXTS = [say(number, "de") for number in range(0, 3000, 7)]


def test_pieces_cover_the_texts_and_put_characters_together():
    pieces, scores = learn_subwords(TEXTS, size=100)
    assert 50 < len(pieces) == len(scores) <= 100
    assert set("".join(TEXTS)) <= set(pieces)
    assert all(score < 0 for score in scores)
    tokenizer = SubwordTokenizer(pieces, scores)
    assert tokenizer.unknown(TEXTS).numpy().sum() == 0
    assert {"hundert", "und", "tausend"} & {piece.strip("▁") for piece in pieces}


def test_the_same_texts_give_the_same_pieces():
    learned = learn_subwords(TEXTS, size=60)
    assert learn_subwords([text.encode() for text in TEXTS], size=60) == learned
    assert learn_subwords(iter([*TEXTS, "", "  "]), size=60) == learned
    assert learn_subwords(TEXTS[:200], size=60) != learned


def test_fewer_pieces_than_asked_for_are_no_error():
    assert 2 < len(learn_subwords(["ab ab", "abc ab"], size=1000)[0]) < 20


@pytest.mark.parametrize("texts", [[], ["", "  "]])
def test_no_texts_are_refused(texts):
    with pytest.raises(UserError, match="there is no text to learn subwords of"):
        learn_subwords(texts, size=10)


def test_fewer_pieces_than_characters_are_refused():
    with pytest.raises(
        UserError, match=r"no 5 subwords .*: each character is one, and .* must be (\d+) at least$"
    ) as e:
        learn_subwords(TEXTS, size=5)
    least = int(re.search(r"must be (\d+)", str(e.value))[1])
    assert len(learn_subwords(TEXTS, least)[0]) == least
    with pytest.raises(UserError, match="each character is one"):
        learn_subwords(TEXTS, least - 1)
