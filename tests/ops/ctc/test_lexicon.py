import itertools

import numpy as np
import pytest

from keras_dl.ops.ctc import Lexicon


def reading(lexicon, classes):
    """Returns the index of the word with these classes, -1 if it is only a prefix, None if it is neither."""
    node, next_node = 0, lexicon.next_node.numpy()
    for class_ in classes:
        node = next_node[node, class_]
        if node < 0:
            return None
    return lexicon.word_at.numpy()[node]


@pytest.mark.parametrize("blank", [0, 1, 2, 4])
def test_every_string_is_a_word_a_prefix_or_neither(blank):
    generator = np.random.default_rng(blank)
    vocabulary = ["a", " ", "b", "c"]
    class_of = {label: index + (index >= blank) for index, label in enumerate(vocabulary)}
    words = sorted({"".join(generator.choice(["a", "b", "c"], generator.integers(1, 5))) for _ in range(20)})
    generator.shuffle(words)
    lexicon = Lexicon(words, vocabulary, blank_index=blank)
    assert (lexicon.words, lexicon.separator_class, lexicon.blank_index) == (words, class_of[" "], blank)
    assert (lexicon.next_node.dtype, lexicon.word_at.dtype) == ("int32", "int32")
    beginnings = {word[:end] for word in words for end in range(len(word) + 1)}
    assert lexicon.next_node.shape == (len(beginnings), 5)
    assert lexicon.word_at.shape == (len(beginnings),)
    for length in range(6):
        for letters in itertools.product(["a", "b", "c"], repeat=length):
            text = "".join(letters)
            expected = words.index(text) if text in words else -1 if text in beginnings else None
            assert reading(lexicon, [class_of[letter] for letter in letters]) == expected
    np.testing.assert_array_equal(lexicon.next_node.numpy()[:, [blank, class_of[" "]]], -1)


def test_labels_longer_than_a_letter():
    lexicon = Lexicon([["th", "e"], ["t", "h", "e"], ["th"], "the", ("e",)], ["t", "h", "e", "th"], separator=None)
    assert lexicon.words == ["the", "th", "e"]
    assert lexicon.separator_class is None
    # Two spellings of "the".
    assert [reading(lexicon, classes) for classes in ([4, 3], [1, 2, 3], [4], [3])] == [0, 0, 1, 2]
    assert [reading(lexicon, classes) for classes in ([1], [1, 2], [2])] == [-1, -1, None]


def test_duplicate_words_are_merged():
    lexicon = Lexicon(["ab", "a", "ab"], ["a", "b", " "])
    assert lexicon.words == ["ab", "a"]
    assert reading(lexicon, [1, 2]) == 0


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        ([], {}, "at least one word. Received: none"),
        (["a", ""], {}, "at least one label. Received: an empty word"),
        (["a", "bad"], {}, r"in the vocabulary. Received: 'bad' with \['d'\]"),
        ([["a", "ab", "c"]], {}, r"'aabc' with \['ab', 'c'\]"),
        (["a b"], {}, "must not contain the separator ' '. Received: 'a b'"),
        (["a"], {"separator": "|"}, r"`separator` must be a label .* Received: '\|'"),
        (["a"], {"blank_index": 4}, "`blank_index` must be from 0 to 3. Received: 4"),
    ],
)
def test_invalid_lexicons_raise(words, options, message):
    with pytest.raises(ValueError, match=message):
        Lexicon(words, ["a", "b", " "], **options)


def test_a_str_instead_of_words_raises():
    with pytest.raises(ValueError, match="`words` must be a list of words. Received: the str 'abc'"):
        Lexicon("abc", ["a", "b", "c"], separator=None)


def test_duplicate_labels_raise():
    with pytest.raises(ValueError, match=r"must not contain duplicates. Received: \['a', ' ', 'a'\]"):
        Lexicon(["a"], ["a", " ", "a"])


def test_the_vocabulary_may_be_a_number():
    for lexicon in (Lexicon(["12", "0"], 3, None), Lexicon(["12", "0"], np.int64(3), None)):
        assert [reading(lexicon, classes) for classes in ([2, 3], [1], [2])] == [0, 1, -1]


def test_a_space_is_a_label_without_a_separator():
    lexicon = Lexicon(["a b"], ["a", "b", " "], separator=None)
    assert reading(lexicon, [1, 3, 2]) == 0


def test_ten_thousand_words():
    generator = np.random.default_rng(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(generator.choice(list(letters), generator.integers(3, 11))) for _ in range(10_000)]
    lexicon = Lexicon(words, [*letters, " "])
    for index in range(0, len(lexicon.words), 501):
        assert reading(lexicon, [1 + letters.index(letter) for letter in lexicon.words[index]]) == index
