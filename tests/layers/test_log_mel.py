"""Tests of LogMel: the definition in NumPy, and rows alone and in a batch."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.layers import LogMel, VocalTractPerturbation

SOUND = np.random.default_rng(0).normal(0, 0.1, (3, 1234)).astype("float32")


def in_numpy(sound, rate=8000, samples=200, stride=80, fft=256, bands=40, lowest=60.0, highest=4000.0, floor=1e-6):
    """Computes the definition for one waveform `[samples]` in float64, with triangles on the HTK mel scale."""

    def mel(hertz):
        return 1127 * np.log1p(hertz / 700)

    edges = np.linspace(mel(lowest), mel(highest), bands + 2)
    place = mel(np.arange(fft // 2 + 1) * rate / fft)
    rising = (place[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - place[:, None]) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0, np.minimum(rising, falling))
    triangles[0] = 0
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(samples) / samples)
    padded = np.concatenate([np.zeros(samples), sound.astype(float), np.zeros(samples)])
    frames = []
    for center in range(0, len(sound), stride):
        frame = padded[samples + center - samples // 2 :][:samples] * window
        frames.append(np.log(np.square(np.abs(np.fft.rfft(frame, fft))) @ triangles + floor))
    return np.array(frames).reshape(-1, bands)


@pytest.mark.parametrize("samples", [1, 79, 80, 81, 400, 1234])
def test_matches_the_definition(samples):
    found = LogMel()(SOUND[:, :samples])
    assert found.shape == (3, -(-samples // 80), 40)
    for row in range(3):
        np.testing.assert_allclose(found[row], in_numpy(SOUND[row, :samples]), rtol=1e-4, atol=1e-3)


def test_matches_the_definition_with_other_sizes():
    found = LogMel(16_000, window=0.032, hop=0.016, bands=20, lowest=200.0, highest=6000.0, floor=1e-3)(SOUND)
    expected = in_numpy(SOUND[1], 16_000, 512, 256, 512, 20, 200.0, 6000.0, 1e-3)
    np.testing.assert_allclose(found[1], expected, rtol=1e-4, atol=1e-3)


def test_an_empty_waveform_gives_no_frames():
    assert LogMel()(SOUND[:, :0]).shape == (3, 0, 40)


def test_silence_gives_the_floor():
    np.testing.assert_allclose(LogMel(floor=1e-4)(np.zeros((1, 200))), np.full((1, 3, 40), np.log(1e-4)), rtol=1e-5)


@pytest.mark.parametrize("junk", [0.0, 1e4, np.nan])
def test_padding_has_no_effect(junk):
    lengths = [1234, 700, 1]
    padded, mask = np.full((3, 1500), junk, "float32"), np.zeros((3, 1500), bool)
    for row, length in enumerate(lengths):
        padded[row, :length], mask[row, :length] = SOUND[row, :length], True
    layer = LogMel()
    found, centers = layer(padded, mask=mask).numpy(), layer.compute_mask(padded, mask)
    assert np.isfinite(found).all()
    for row, length in enumerate(lengths):
        alone = layer(SOUND[row : row + 1, :length])[0]
        assert centers[row].sum() == len(alone)
        np.testing.assert_allclose(found[row, : len(alone)], alone, atol=1e-4)


def test_the_mask_of_samples_is_converted_to_frames():
    sound, mask = keras.Input((None,)), keras.Input((None,), dtype="bool")
    frames = LogMel()(sound, mask=mask)
    summed = keras.layers.GlobalAveragePooling1D()(frames)  # ignores masked frames
    model = keras.Model([sound, mask], summed)
    half = np.arange(1234)[None] < [[1234], [600], [600]]
    np.testing.assert_allclose(model([SOUND, half])[1], LogMel()(SOUND[1:2, :600])[0].numpy().mean(axis=0), rtol=1e-3)


@pytest.mark.usefixtures("graphs")
def test_config_shapes_and_graphs():
    layer = LogMel(bands=12, hop=0.02, name="front")
    twin = LogMel.from_config(json.loads(json.dumps(layer.get_config())))
    assert twin.get_config() == layer.get_config()
    symbolic = layer(keras.KerasTensor((None, None)))
    assert (symbolic.shape, symbolic.dtype) == ((None, None, 12), "float32")
    assert layer.compute_output_shape((3, 1234)) == layer(SOUND).shape
    for jit in (False, True):
        graph = tf.function(layer, input_signature=[tf.TensorSpec([None, None])], jit_compile=jit)
        np.testing.assert_allclose(graph(SOUND), layer(SOUND), atol=1e-3)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_computes_in_float32_and_returns_half(policy):
    found = LogMel(dtype=policy)(SOUND)
    assert found.dtype == policy.removeprefix("mixed_")
    np.testing.assert_allclose(tf.cast(found, "float32"), LogMel()(SOUND), rtol=1e-2, atol=0.02)


@pytest.mark.parametrize("arguments", [{"hop": 0.03}, {"hop": 0}, {"bands": 0}, {"floor": 0.0}])
def test_invalid_sizes_raise_an_error(arguments):
    with pytest.raises(ValueError, match="Received: window=.*hop=.*bands=.*floor="):
        LogMel(**arguments)


@pytest.mark.parametrize(
    "edges",
    [{"highest": 8000.0}, {"lowest": -900.0}, {"lowest": 5000.0}, {"lowest": 300.0, "highest": 200.0},
     {"lowest": 60.0, "highest": 60.0}, {"lowest": np.nan}, {"highest": np.inf}],
)  # fmt: skip
@pytest.mark.parametrize("layer", [LogMel, VocalTractPerturbation])
def test_edges_beyond_the_recording_or_out_of_order_are_refused(layer, edges):
    with pytest.raises(ValueError, match="0 <= lowest < highest <= 4000 Hz.*Received"):
        layer(sample_rate=8000, **edges)


@pytest.mark.parametrize("arguments", [{"bands": 128}, {"window": 0.008, "hop": 0.004}, {"lowest": 0.0, "bands": 100}])
def test_bands_without_any_bin_are_named(arguments):
    with pytest.warns(UserWarning, match="mel bands contain no bin") as said:
        layer = LogMel(**arguments)
    dead = np.flatnonzero(np.ptp(layer(SOUND)[0], axis=0) == 0)
    assert len(dead) and f"bands {', '.join(map(str, dead))} " in str(said[0].message)


def test_the_bands_are_those_of_keras_and_leave_none_empty(recwarn):
    keras_layer = keras.layers.MelSpectrogram(
        256, 80, 200, sampling_rate=8000, num_mel_bins=40, min_freq=60.0, max_freq=4000.0
    )
    expected = keras_layer.linear_to_mel_weight_matrix(40, 129, 8000, 60.0, 4000.0)
    np.testing.assert_allclose(LogMel().filters, expected, atol=1e-4)
    assert not recwarn
