"""Tests of the recogniser: padding, shapes, saving and export."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.models import recogniser, speech_recogniser


def random_recogniser(**options):
    """A small model with non-zero biases, as after training: otherwise padding stays zero anyway."""
    model = recogniser(10, list("abc"), **{"filters": 4, "units": 5, **options})
    generator = np.random.default_rng(0)
    model.set_weights([generator.normal(0, 0.5, weight.shape) for weight in model.get_weights()])
    return model


def images(batch, width, height=10):
    image = np.random.default_rng(1).uniform(0.1, 1, (batch, width, height)).astype("float32")
    image[:, width // 2] = 0  # a gap is not padding
    return image


@pytest.mark.parametrize("halvings", [1, 2, 3])
def test_padding_does_not_change_the_result(halvings):
    model = random_recogniser(halvings=halvings)
    for width in (1, 2, 7, 12):
        image = images(2, width)
        image[:, -1] = 0.5
        plain = model(image).numpy()
        frames = -(-width // 2**halvings)
        assert plain.shape == (2, frames, 4)
        for padding in (1, 2**halvings, 2 ** (halvings + 1) + 1):
            padded = model(np.pad(image, [[0, 0], [0, padding], [0, 0]])).numpy()
            assert padded.shape[1] == -(-(width + padding) // 2**halvings)
            np.testing.assert_allclose(padded[:, :frames], plain, atol=1e-5)
            # Padding frames are certain blanks.
            np.testing.assert_array_equal(tf.nn.softmax(padded)[:, frames:, 0], 1)


def test_rows_of_different_length():
    model = random_recogniser()
    image = images(3, 12)
    for row, width in enumerate((12, 9, 4)):
        image[row, width - 1] = 0.5
        image[row, width:] = 0
    together = model(image).numpy()
    for row, width in enumerate((12, 9, 4)):
        alone = model(image[row : row + 1, :width]).numpy()
        np.testing.assert_allclose(together[row, : alone.shape[1]], alone[0], atol=1e-5)


def test_empty_columns_inside_and_before_the_text_are_not_padding():
    model = random_recogniser()
    image = images(1, 12)
    without = model(np.delete(image, 6, axis=1)).numpy()
    assert np.abs(model(image).numpy()[:, :3] - without[:, :3]).max() > 1e-3  # the LSTM also reads from the right
    before = model(np.pad(image, [[0, 0], [4, 0], [0, 0]])).numpy()
    assert np.abs(before[:, 2:] - model(image).numpy()).max() > 1e-3


def test_an_empty_image_is_all_blanks():
    logits = random_recogniser()(np.zeros((2, 9, 10), "float32"))
    np.testing.assert_array_equal(tf.nn.softmax(logits)[..., 0], 1)


@pytest.mark.parametrize("halvings", [1, 2, 3])
def test_names_and_symbolic_shapes(halvings):
    model = recogniser(11, list("ab"), filters=2, units=3, halvings=halvings)
    assert [tensor.name for tensor in model.inputs] == ["columns"]
    assert model.input_shape == (None, None, 11)
    assert model.output_shape == (None, None, 3)
    assert model.get_layer("ctc_output").vocabulary == ["a", "b"]


def test_dropout_applies_only_in_training():
    model = random_recogniser(dropout=0.5)
    image = images(1, 12)
    np.testing.assert_array_equal(model(image), model(image))
    assert (model(image, training=True).numpy() != model(image).numpy()).any()


@pytest.mark.parametrize("halvings", [1, 2])
def test_save_and_load(halvings, tmp_path):
    model = random_recogniser(halvings=halvings)
    model.save(tmp_path / "reader.keras")
    loaded = keras.saving.load_model(tmp_path / "reader.keras")
    image = np.pad(images(2, 11), [[0, 0], [0, 3], [0, 0]])
    np.testing.assert_allclose(loaded(image), model(image), atol=1e-6)
    assert loaded.get_layer("ctc_output").vocabulary == list("abc")


def test_exports_with_any_batch_and_width(tmp_path):
    model = random_recogniser()
    model.export(tmp_path / "export", verbose=False)
    served = tf.saved_model.load(tmp_path / "export")
    for batch, width in ((1, 5), (3, 12)):
        np.testing.assert_allclose(served.serve(images(batch, width)), model(images(batch, width)), atol=1e-5)


def test_channels_first_changes_nothing():
    """The setting in keras.json is about images; the convolutions are over our own tensors."""
    column, sound = images(2, 8), {"waveform": np.ones((1, 800), "float32"), "length": np.array([800])}

    def models():
        return [random_recogniser(), *(speech_recogniser(["a"], filters=2, units=2, causal=c) for c in (True, False))]

    before = keras.config.image_data_format()
    expected = models()
    try:
        keras.config.set_image_data_format("channels_first")
        found = models()
    finally:
        keras.config.set_image_data_format(before)
    for one, other, x in zip(expected, found, (column, sound, sound), strict=True):
        other.set_weights(one.get_weights())
        np.testing.assert_array_equal(other(x), one(x))
