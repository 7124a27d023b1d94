import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.ctc import edit_distance, label_error_rate, word_error_rate

from .textbook import levenshtein


def test_edit_distance_is_that_of_levenshtein():
    generator = np.random.default_rng(7)
    for _ in range(30):
        batch = generator.integers(1, 6)
        # Negative entries anywhere are no tokens.
        hypotheses = generator.integers(-2, 4, (batch, generator.integers(0, 8)))
        references = generator.integers(-2, 4, (batch, generator.integers(0, 8)))
        expected = [
            levenshtein([t for t in a if t >= 0], [t for t in b if t >= 0])
            for a, b in zip(hypotheses.tolist(), references.tolist(), strict=True)
        ]
        np.testing.assert_array_equal(edit_distance(hypotheses, references), expected)


def test_edit_distance_of_words():
    first, second = tf.strings.split(["the cat sat", "", "a"]), tf.strings.split(["the hat sat down", "one", "a"])
    np.testing.assert_array_equal(edit_distance(first, second), [2, 1, 0])


@pytest.mark.parametrize("graph", [False, True])
def test_label_error_rate_is_that_of_the_corpus(graph):
    rate = tf.function(label_error_rate) if graph else label_error_rate
    hypotheses, references = np.array([[1, 2, -1], [3, -1, 3]]), np.array([[1, -1, -1, -1], [3, 3, 3, 3]])
    assert float(rate(hypotheses, references)) == pytest.approx(3 / 5)
    assert float(rate(references, hypotheses)) == pytest.approx(3 / 4)
    assert rate(references, references) == 0


@pytest.mark.parametrize("graph", [False, True])
def test_word_error_rate_is_that_of_the_corpus(graph):
    rate = tf.function(word_error_rate) if graph else word_error_rate
    hypotheses, references = tf.constant(["the cat  sat", "a b c", ""]), tf.constant(["the cat sat ", "c", "one two"])
    assert float(rate(hypotheses, references)) == pytest.approx((0 + 2 + 2) / 6)
    assert float(rate(references, hypotheses)) == pytest.approx((0 + 2 + 2) / 6)
    assert rate(references, references) == 0


def test_texts_may_be_lists():
    assert float(word_error_rate(["né à", "b"], ["né a", "b"])) == pytest.approx(1 / 3)


def test_nothing_to_find():
    assert label_error_rate(np.full((2, 3), -1), np.zeros((2, 0), "int32")) == 0
    assert word_error_rate([], []) == word_error_rate([""], [" "]) == 0
    # What was made up is wrong however few labels there are.
    assert label_error_rate(np.array([[1]]), np.array([[-1]])) == np.inf
    assert word_error_rate(["a"], [""]) == np.inf
