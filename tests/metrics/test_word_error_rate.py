import numpy as np
import pytest

from keras_dl.metrics import WordErrorRate


def rate(*pairs, vocabulary="ab ", separator=" ", blank_index=0):
    """Returns the rate of pairs of decodings and references, texts of one-letter labels; each pair is a batch."""
    metric = WordErrorRate(list(vocabulary), separator, blank_index)
    class_of = {label: index + (index >= blank_index) for index, label in enumerate(vocabulary)}
    for read, truth in pairs:
        path = [class_ for letter in read for class_ in (class_of[letter], blank_index)] or [blank_index]
        logits = np.eye(len(vocabulary) + 1, dtype="float32")[[path]] * 9
        metric.update_state(np.array([[class_of[letter] for letter in truth] + [-1]]), logits)
    return float(metric.result())


@pytest.mark.parametrize("blank", [0, 1, 3])
@pytest.mark.parametrize(
    ("read", "truth", "expected"),
    [
        ("ab ba", "ab ba", 0),
        ("ab bb", "ab ba", 1 / 2),  # a wrong letter makes the word wrong
        ("abba", "ab ba", 1),  # one word for two: a substitution and a deletion
        ("a b ba", "ab ba", 1),
        ("", "ab ba a", 1),
        ("ba", "ab ba a", 2 / 3),
        ("a b a b", "b", 3),
        (" ab   ba ", "ab ba", 0),  # no empty words
        ("", "", 0),
        (" ", "  ", 0),
    ],
)
def test_counts_word_edits_over_words(read, truth, expected, blank):
    assert rate((read, truth), blank_index=blank) == pytest.approx(expected)


def test_the_rate_is_that_of_the_corpus_and_not_a_mean_of_means():
    assert rate(("a", "b"), ("a b a b", "a b a b"), ("", "a a")) == pytest.approx(3 / 7)


def test_insertions_without_words_give_an_infinite_rate():
    assert rate(("a", "")) == np.inf


def test_any_label_may_be_the_separator():
    assert rate(("a|b", "a|a"), vocabulary="|ab", separator="|") == pytest.approx(1 / 2)
    assert rate(("a|b", "a|a"), vocabulary="|ab", separator="b") == pytest.approx(1)


def test_labels_of_several_letters():
    metric = WordErrorRate(["th", "e", "_", "the"], "_")
    # The same words, spelled differently: th e _ the.
    metric.update_state(np.array([[4, 3, 1, 2]]), np.eye(5, dtype="float32")[[[1, 2, 3, 4]]])
    assert metric.result() == 0


def test_the_vocabulary_may_be_a_number():
    metric = WordErrorRate(3, separator="0")
    assert metric.get_config()["vocabulary"] == ["0", "1", "2"]
    metric.update_state(np.array([[2, 1, 3]]), np.eye(4, dtype="float32")[[[2, 1, 2]]])
    assert metric.result() == 0.5


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match=r"`separator` must be a label of the vocabulary \['a'\]. Received: ' '"):
        WordErrorRate(["a"])
    for blank in (-1, 3, 9):
        with pytest.raises(ValueError, match=f"`blank_index` must be from 0 to 2. Received: {blank}"):
            WordErrorRate(["a", " "], blank_index=blank)
    with pytest.raises(ValueError, match=r"logits of 2 labels and the blank. Received: shape \(1, 2, 5\)"):
        WordErrorRate(["a", " "]).update_state(np.array([[1]]), np.zeros((1, 2, 5), "float32"))
