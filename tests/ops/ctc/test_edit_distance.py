import numpy as np
import pytest
import tensorflow as tf

from keras_dl.ops.ctc import edit_distance, label_error_rate, word_error_rate

from .textbook import levenshtein

SHAPES = [tf.TensorSpec([None, None], tf.int32)] * 2
MODES = {
    "eager": edit_distance,
    "graph": tf.function(edit_distance, input_signature=SHAPES, autograph=False),
    "jit": tf.function(edit_distance, input_signature=SHAPES, jit_compile=True, autograph=False),
}


@pytest.mark.parametrize("mode", MODES)
def test_edit_distance_matches_levenshtein(mode):
    generator = np.random.default_rng(7)
    for _ in range(3 if mode == "jit" else 30):  # each shape is compiled
        batch = generator.integers(1, 6)
        # Negative entries are ignored at any position.
        hypotheses = generator.integers(-2, 4, (batch, generator.integers(0, 8)))
        references = generator.integers(-2, 4, (batch, generator.integers(0, 8)))
        expected = [
            levenshtein([t for t in a if t >= 0], [t for t in b if t >= 0])
            for a, b in zip(hypotheses.tolist(), references.tolist(), strict=True)
        ]
        found = MODES[mode](tf.constant(hypotheses, tf.int32), tf.constant(references, tf.int32))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shapes", [((64, 40), (64, 20)), ((3, 1), (3, 30)), ((2, 5), (2, 0)), ((2, 0), (2, 3))])
def test_edit_distance_matches_tensorflow(shapes):
    generator = np.random.default_rng(8)
    rows = [generator.integers(-1, 6, shape) for shape in shapes]
    sparse = [tf.ragged.boolean_mask(tokens, tokens >= 0).to_sparse() for tokens in map(tf.constant, rows)]
    np.testing.assert_array_equal(edit_distance(*rows), tf.edit_distance(*sparse, normalize=False))


def test_different_batch_sizes_raise():
    rows = [tf.constant(tokens) for tokens in ([[1, 2]], [[1, 2], [3, 4]])]
    for measure in (edit_distance, label_error_rate):
        with pytest.raises(ValueError, match="as many hypotheses as references. Received: 1 and 2 rows"):
            measure(*rows)
    with pytest.raises(ValueError, match="Received: 1 and 2 rows"):
        word_error_rate(["a b"], ["a c", "x y"])
    # In a graph, the loop may fail before the check.
    with pytest.raises(tf.errors.InvalidArgumentError, match="as many hypotheses as references|must be equal"):
        MODES["graph"](*rows)
    with pytest.raises(ValueError, match="Either both arguments or neither .*Received: one"):
        edit_distance(tf.strings.split(["a"]), rows[0])


def test_edit_distance_of_words():
    first, second = tf.strings.split(["the cat sat", "", "a"]), tf.strings.split(["the hat sat down", "one", "a"])
    np.testing.assert_array_equal(edit_distance(first, second), [2, 1, 0])


@pytest.mark.parametrize("graph", [False, True])
def test_label_error_rate_is_computed_over_the_corpus(graph):
    rate = tf.function(label_error_rate) if graph else label_error_rate
    hypotheses, references = np.array([[1, 2, -1], [3, -1, 3]]), np.array([[1, -1, -1, -1], [3, 3, 3, 3]])
    assert float(rate(hypotheses, references)) == pytest.approx(3 / 5)
    assert float(rate(references, hypotheses)) == pytest.approx(3 / 4)
    assert rate(references, references) == 0


def test_blanks_and_negative_numbers_are_padding():
    hypotheses, references = np.array([[1, 2, -1], [3, 0, 3]]), np.array([[1, 2, 0, 0], [3, 3, 3, -1]])
    assert float(label_error_rate(hypotheses, references)) == pytest.approx(1 / 5)
    assert float(label_error_rate(hypotheses, references, blank_index=3)) == pytest.approx(3 / 4)
    assert float(label_error_rate(hypotheses, references, blank_index=-1)) == pytest.approx(3 / 7)


@pytest.mark.parametrize("graph", [False, True])
def test_word_error_rate_is_computed_over_the_corpus(graph):
    rate = tf.function(word_error_rate) if graph else word_error_rate
    hypotheses, references = tf.constant(["the cat  sat", "a b c", ""]), tf.constant(["the cat sat ", "c", "one two"])
    assert float(rate(hypotheses, references)) == pytest.approx((0 + 2 + 2) / 6)
    assert float(rate(references, hypotheses)) == pytest.approx((0 + 2 + 2) / 6)
    assert rate(references, references) == 0


def test_texts_may_be_lists():
    assert float(word_error_rate(["né à", "b"], ["né a", "b"])) == pytest.approx(1 / 3)


def test_empty_references():
    assert label_error_rate(np.full((2, 3), -1), np.zeros((2, 0), "int32")) == 0
    assert word_error_rate([], []) == word_error_rate([""], [" "]) == 0
    # Insertions are errors even without labels.
    assert label_error_rate(np.array([[1]]), np.array([[-1]])) == np.inf
    assert word_error_rate(["a"], [""]) == np.inf
