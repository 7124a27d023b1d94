"""Operations on one example: eagerly and inside tf.data, with the same result."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.data.ops import columns, fit_height, teacher_forcing, windows, words


def both(function, *arrays):
    """The results of a function called eagerly and in a map over a data set of unknown shapes; they are equal."""
    eager = tf.nest.flatten(function(*(tf.constant(array) for array in arrays)))
    signature = [tf.TensorSpec([None] * np.ndim(array), tf.constant(array).dtype) for array in arrays]
    data = tf.data.Dataset.from_generator(lambda: iter([tuple(arrays)]), output_signature=tuple(signature))
    mapped = tf.nest.flatten(next(iter(data.map(function))))
    for a, b in zip(eager, mapped, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    return [tensor.numpy() for tensor in eager]


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
@pytest.mark.parametrize("scale", [1, 15])
def test_columns_stand_in_order_with_the_brightest_at_one(dtype, scale):
    image = (np.array([[0, 4, 0], [2, 0, 8]]) * scale).astype(dtype)
    [result] = both(columns, image)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, [[0, 0.25], [0.5, 0], [0, 1]])


def test_each_image_of_a_batch_has_its_own_brightest():
    images = np.array([[[1, 2]], [[30, 60]]], "float32")
    [result] = both(columns, images)
    np.testing.assert_array_equal(result, [[[0.5], [1]], [[0.5], [1]]])
    np.testing.assert_array_equal(result[1], both(columns, images[1])[0])


def test_what_is_below_the_background_is_background():
    """Else zeros behind an image would be its brightest, and padding would change what is read."""
    assert columns(tf.constant([[-2.0, 4.0], [-3.0, 0.0]])).numpy().tolist() == [[0.0, 0.0], [1.0, 0.0]]
    assert columns(tf.constant([[-2.0, -4.0]])).numpy().tolist() == [[0.0], [0.0]]


def test_columns_of_an_image_without_ink_are_zero():
    [result] = both(columns, np.zeros((3, 4), "uint8"))
    np.testing.assert_array_equal(result, np.zeros((4, 3)))


def test_a_fitting_image_stays_as_it_is():
    image = np.random.default_rng(0).uniform(size=(2, 6, 9)).astype("float32")
    [result] = both(lambda value: fit_height(value, 6), image)
    np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize(("rows", "above"), [(1, 2), (2, 2), (4, 1), (5, 0)])
def test_a_low_image_is_centred(rows, above):
    image = np.random.default_rng(0).uniform(1, 2, size=(2, rows, 3)).astype("float32")
    [result] = both(lambda value: fit_height(value, 6), image)
    assert result.shape == (2, 6, 3)
    np.testing.assert_array_equal(result[:, above : above + rows], image)
    assert (result > 0).sum() == image.size


@pytest.mark.parametrize("factor", [2, 3])
def test_a_high_image_is_averaged_over_the_area(factor):
    image = np.random.default_rng(0).uniform(size=(2, 4 * factor, 5 * factor)).astype("float32")
    [result] = both(lambda value: fit_height(value, 4), image)
    expected = image.reshape(2, 4, factor, 5, factor).mean(axis=(2, 4))
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_a_width_out_of_proportion_is_rounded_up():
    [result] = both(lambda value: fit_height(value, 10), np.ones((1, 13, 4), "float32"))
    assert result.shape == (1, 10, 4)  # 3.08 columns
    np.testing.assert_allclose(result, 1, rtol=1e-6)


def test_pixels_may_be_whole_numbers():
    [result] = both(lambda value: fit_height(value, 2), np.full((1, 4, 4), 200, "uint8"))
    np.testing.assert_array_equal(result, np.full((1, 2, 2), 200, "float32"))


def test_the_height_is_known_in_a_graph():
    shapes = []

    @tf.function(input_signature=[tf.TensorSpec([None, None, None], tf.float32)])
    def graph(image):
        shapes.append(fit_height(image, 7).shape)

    graph.get_concrete_function()
    assert shapes[0].as_list() == [None, 7, None]


@pytest.mark.parametrize("length", [1, 3, 4, 50])
@pytest.mark.parametrize("text", ["", "a", "abcdefgh", "naïve €uro", "x" * 9])
def test_windows_predict_each_byte_once_from_the_one_before(text, length):
    for context in range(min(length, 3)):
        ids, following, weights = both(lambda value, c=context: windows(value, length, c), text)
        values = [0, *text.encode()]
        assert (ids.dtype, following.dtype, weights.dtype) == (np.int32, np.int32, np.float32)
        assert ids.shape == following.shape == weights.shape
        assert ids.shape[1] == length
        assert following[weights > 0].tolist() == values[1:]
        assert ids[weights > 0].tolist() == values[:-1]
        # Context is what stands before: each window goes on where the one before it did.
        np.testing.assert_array_equal(ids[1:, :context], ids[:-1, length - context :])
        assert (weights[1:, :context] == 0).all()


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize(("source", "target"), [([7, 8], [4, 5, 6]), ([], [4]), ([9], [])])
def test_each_label_is_told_from_those_before_it(source, target, dtype):
    source, target = np.array(source, dtype), np.array(target, dtype)
    read, before, labels = both(teacher_forcing, source, target)
    assert read.dtype == before.dtype == labels.dtype == np.int32
    assert read.tolist() == source.tolist()
    assert before.tolist() == [2, *target]
    assert labels.tolist() == [*target, 3]
    inputs, _ = teacher_forcing(source, target)
    assert sorted(inputs) == ["source", "target"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Isn't it GOOD?<br />It's...", "isn't it good ? it's . . ."),
        ("  ÄRGER\tund\n Naïveté ", "ärger und naïveté"),
        ("well-made (1999) a/b_c $5", "well - made ( 1999 ) a / b _ c $ 5"),
        ("", ""),
        (" <br> ", ""),
        ("日本 é", "日本 é"),
    ],
)
def test_words_are_in_lower_case_and_apart_from_punctuation(text, expected):
    [result] = both(words, text)
    assert result.decode() == expected
    [again] = both(words, np.array(["x", text, ""]))
    assert [row.decode() for row in again] == ["x", expected, ""]
    assert words(tf.constant(expected)).numpy().decode() == expected


def test_the_first_words_of_a_long_text_are_taken():
    text = " ".join(str(number) for number in range(500))
    assert words(tf.constant(text)).numpy().split() == text.encode().split()[:400]
    assert words(tf.constant([text, "a b c d"]), most=3).numpy().tolist() == [b"0 1 2", b"a b c"]
    assert words(tf.constant([], tf.string)).shape == (0,)
