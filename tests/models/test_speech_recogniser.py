"""Tests of the speech recogniser: shapes, padding, causality, saving."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.models import speech_recogniser

SOUND = np.random.default_rng(0).normal(0, 0.1, (2, 9000)).astype("float32")


def random_recogniser(**options):
    keras.utils.set_random_seed(0)
    model = speech_recogniser(["a", "b"], filters=3, units=5, seed=1, **options)
    generator = np.random.default_rng(0)
    model.set_weights([generator.normal(0, 0.4, weight.shape) for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module", params=[False, True], ids=["both", "causal"])
def model(request):
    return random_recogniser(causal=request.param)


def recognize(model, sound, length=None):
    length = np.full(len(sound), sound.shape[1]) if length is None else np.array(length)
    return model({"waveform": sound, "length": length}, training=False).numpy()


@pytest.mark.parametrize("samples", [1, 80, 81, 320, 321, 9000])
def test_one_frame_every_40_milliseconds(model, samples):
    assert recognize(model, SOUND[:, :samples]).shape == (2, -(-samples // 320), 3)


@pytest.mark.parametrize("length", [1, 332, 5000, 5079, 5160, 5281])
def test_padding_does_not_change_the_result(model, length):
    alone = recognize(model, SOUND[:1, :length])
    for more in (1, 333) if length % 2 else (80, 2000):
        padded = np.empty((4, length + more), "float32")
        padded[:3, length:] = [[0.0], [1e6], [np.nan]]
        padded[:3, :length], padded[3] = SOUND[0, :length], SOUND[1, : length + more]
        found = recognize(model, padded, [length] * 3 + [length + more])
        assert np.isfinite(found).all()
        for row in found[:3]:
            np.testing.assert_allclose(row[: alone.shape[1]], alone[0], atol=2e-4)
            assert (row[alone.shape[1] :].argmax(axis=-1) == 0).all()  # certain blanks
            assert (row[alone.shape[1] :, 1:] <= -1e8).all()


def test_gradients_are_finite_with_nan_in_the_padding(model):
    sound = np.where(np.arange(9000) < [[9000], [4000]], SOUND, np.nan)
    with tf.GradientTape() as tape:
        frames = model({"waveform": sound, "length": np.array([9000, 4000])}, training=True)
        total = tf.reduce_sum(tf.nn.log_softmax(frames)[..., 0])
    slopes = tape.gradient(total, model.trainable_weights)
    assert all(np.isfinite(slope).all() and np.abs(slope).max() > 0 for slope in slopes)


def test_causal_frames_do_not_depend_on_later_samples():
    model = random_recogniser(causal=True)
    whole = recognize(model, SOUND)
    other = SOUND.copy()
    other[:, 5000:] = np.random.default_rng(1).normal(0, 0.5, (2, 4000))
    # The window of the frame centered on sample 4880, in output frame 15, ends 20 samples before 5000.
    np.testing.assert_allclose(recognize(model, other)[:, :16], whole[:, :16], atol=1e-4)
    assert np.abs(recognize(model, other) - whole)[:, 16:].max() > 1e-2
    both = random_recogniser()
    assert np.abs(recognize(both, other) - recognize(both, SOUND))[:, :16].max() > 1e-2


def test_the_level_of_a_recording_does_not_matter():
    model = random_recogniser()
    np.testing.assert_allclose(recognize(model, SOUND / 4), recognize(model, SOUND), atol=0.02)


def test_augmentation_applies_only_in_training(model):
    inputs = {"waveform": SOUND, "length": np.array([9000, 9000])}
    np.testing.assert_array_equal(recognize(model, SOUND), recognize(model, SOUND))
    assert (model(inputs, training=True).numpy() != model(inputs, training=True).numpy()).any()


def test_choice_of_the_recurrent_layer():
    kinds = {
        name: {
            type(getattr(layer, "forward_layer", layer)).__name__ for layer in random_recogniser(recurrent=name).layers
        }
        for name in ("peephole", "lstm")
    }
    assert "PeepholeLSTM" in kinds["peephole"] and "LSTM" in kinds["lstm"]
    with pytest.raises(ValueError, match="`recurrent` must be one of peephole, lstm. Received: 'gru'"):
        random_recogniser(recurrent="gru")


def test_save_and_load(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(recognize(loaded, SOUND), recognize(model, SOUND))
    assert loaded.get_layer("ctc_output").vocabulary == ["a", "b"]
