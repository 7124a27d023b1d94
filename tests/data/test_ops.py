"""Tests of the preprocessing, eagerly and inside tf.data."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.data.ops import columns, fit_height, teacher_forcing, windows, words


def all_results(function, *examples):
    """Calls a function eagerly and in one map of unknown shapes, checks that they agree, and returns the results."""
    signature = [tf.TensorSpec([None] * np.ndim(array), tf.constant(array).dtype) for array in examples[0]]
    data = tf.data.Dataset.from_generator(lambda: iter(examples), output_signature=tuple(signature))
    results = []
    for example, mapped in zip(examples, data.map(function), strict=True):
        eager = tf.nest.flatten(function(*(tf.constant(array) for array in example)))
        for a, b in zip(eager, tf.nest.flatten(mapped), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        results.append([tensor.numpy() for tensor in eager])
    return results


def both(function, *arrays):
    """Returns the results of one example; see `all_results`."""
    return all_results(function, arrays)[0]


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
@pytest.mark.parametrize("scale", [1, 15])
def test_columns_are_scaled_to_a_maximum_of_one(dtype, scale):
    image = (np.array([[0, 4, 0], [2, 0, 8]]) * scale).astype(dtype)
    [result] = both(columns, image)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, [[0, 0.25], [0.5, 0], [0, 1]])


def test_images_of_a_batch_are_scaled_separately():
    images = np.array([[[1, 2]], [[30, 60]]], "float32")
    [result] = both(columns, images)
    np.testing.assert_array_equal(result, [[[0.5], [1]], [[0.5], [1]]])
    np.testing.assert_array_equal(result[1], both(columns, images[1])[0])


def test_negative_pixels_are_background():
    """Otherwise zeros in the padding could be the brightest pixels and change the result."""
    assert columns(tf.constant([[-2.0, 4.0], [-3.0, 0.0]])).numpy().tolist() == [[0.0, 0.0], [1.0, 0.0]]
    assert columns(tf.constant([[-2.0, -4.0]])).numpy().tolist() == [[0.0], [0.0]]


def test_columns_of_an_image_without_ink_are_zero():
    [result] = both(columns, np.zeros((3, 4), "uint8"))
    np.testing.assert_array_equal(result, np.zeros((4, 3)))


def test_an_image_of_the_right_height_is_unchanged():
    image = np.random.default_rng(0).uniform(size=(2, 6, 9)).astype("float32")
    [result] = both(lambda value: fit_height(value, 6), image)
    np.testing.assert_array_equal(result, image)


def test_a_short_image_is_centered():
    generator, margins = np.random.default_rng(0), {1: 2, 2: 2, 4: 1, 5: 0}
    images = [generator.uniform(1, 2, size=(2, rows, 3)).astype("float32") for rows in margins]
    results = all_results(lambda value: fit_height(value, 6), *((image,) for image in images))
    for image, [result], (rows, above) in zip(images, results, margins.items(), strict=True):
        assert result.shape == (2, 6, 3)
        np.testing.assert_array_equal(result[:, above : above + rows], image)
        assert (result > 0).sum() == image.size


def test_a_tall_image_is_averaged_over_the_area():
    generator, factors = np.random.default_rng(0), (2, 3)
    images = [generator.uniform(size=(2, 4 * factor, 5 * factor)).astype("float32") for factor in factors]
    results = all_results(lambda value: fit_height(value, 4), *((image,) for image in images))
    for image, [result], factor in zip(images, results, factors, strict=True):
        expected = image.reshape(2, 4, factor, 5, factor).mean(axis=(2, 4))
        np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_a_fractional_width_is_rounded_up():
    [result] = both(lambda value: fit_height(value, 10), np.ones((1, 13, 4), "float32"))
    assert result.shape == (1, 10, 4)  # 3.08 columns
    np.testing.assert_allclose(result, 1, rtol=1e-6)


def test_pixels_may_be_integers():
    [result] = both(lambda value: fit_height(value, 2), np.full((1, 4, 4), 200, "uint8"))
    np.testing.assert_array_equal(result, np.full((1, 2, 2), 200, "float32"))


def test_the_height_is_static_in_a_graph():
    shapes = []

    @tf.function(input_signature=[tf.TensorSpec([None, None, None], tf.float32)])
    def graph(image):
        shapes.append(fit_height(image, 7).shape)

    graph.get_concrete_function()
    assert shapes[0].as_list() == [None, 7, None]


@pytest.mark.parametrize(("length", "context"), [(1, 0), *((length, c) for length in (3, 4, 50) for c in range(3))])
def test_windows_have_each_byte_once_as_a_target(length, context):
    texts = ["", "a", "abcdefgh", "naïve €uro", "x" * 9]
    results = all_results(lambda value: windows(value, length, context), *((text,) for text in texts))
    for text, (ids, following, weights) in zip(texts, results, strict=True):
        values = [0, *text.encode()]
        assert (ids.dtype, following.dtype, weights.dtype) == (np.int32, np.int32, np.float32)
        assert ids.shape == following.shape == weights.shape
        assert ids.shape[1] == length
        assert following[weights > 0].tolist() == values[1:]
        assert ids[weights > 0].tolist() == values[:-1]
        # The context is the end of the previous window.
        np.testing.assert_array_equal(ids[1:, :context], ids[:-1, length - context :])
        assert (weights[1:, :context] == 0).all()


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_teacher_forcing_adds_start_and_end(dtype):
    pairs = [([7, 8], [4, 5, 6]), ([], [4]), ([9], [])]
    results = all_results(
        teacher_forcing, *((np.array(source, dtype), np.array(target, dtype)) for source, target in pairs)
    )
    for (source, target), (encoder_input, decoder_input, labels) in zip(pairs, results, strict=True):
        assert encoder_input.dtype == decoder_input.dtype == labels.dtype == np.int32
        assert encoder_input.tolist() == source
        assert decoder_input.tolist() == [2, *target]
        assert labels.tolist() == [*target, 3]
    inputs, _ = teacher_forcing(*pairs[0])
    assert sorted(inputs) == ["source", "target"]


def test_words_are_in_lower_case_and_separate_from_punctuation():
    texts = {
        "Isn't it GOOD?<br />It's...": "isn't it good ? it's . . .",
        "  ÄRGER\tund\n Naïveté ": "ärger und naïveté",
        "well-made (1999) a/b_c $5": "well - made ( 1999 ) a / b _ c $ 5",
        "": "",
        " <br> ": "",
        "日本 é": "日本 é",
    }
    results = all_results(words, *((text,) for text in texts))
    assert [result.decode() for [result] in results] == list(texts.values())
    [batch] = both(words, np.array(list(texts)))
    assert [row.decode() for row in batch] == list(texts.values())
    assert [row.decode() for row in words(tf.constant(list(texts.values()))).numpy()] == list(texts.values())


def test_long_texts_are_cut():
    text = " ".join(str(number) for number in range(500))
    assert words(tf.constant(text)).numpy().split() == text.encode().split()[:400]
    assert words(tf.constant([text, "a b c d"]), most=3).numpy().tolist() == [b"0 1 2", b"a b c"]
    assert words(tf.constant([], tf.string)).shape == (0,)
