"""Tests of reading WAV files of all formats, and of invalid files."""

import io
import struct
import wave

import numpy as np
import pytest
from scipy.io import wavfile

from keras_dl.data.audio import decode_wav, fit_audio, to_int16
from keras_dl.errors import UserError

TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(4000) / 8000)


def wav(samples, rate=8000):
    file = io.BytesIO()
    wavfile.write(file, rate, samples)
    return file.getvalue()


def pcm24(samples, rate=8000):
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 3, rate, 0, "NONE", None))
        writer.writeframes(b"".join(int(s * 2**23).to_bytes(3, "little", signed=True) for s in samples))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "precision"),
    [
        (wav((TONE * 127 + 128).round().astype(np.uint8)), 1e-2),
        (wav((TONE * 2**15).round().astype(np.int16)), 1e-4),
        (pcm24(TONE), 1e-6),
        (wav((TONE * 2.0**31).round().astype(np.int32)), 1e-6),
        (wav(TONE.astype(np.float32)), 1e-7),
        (wav(TONE), 1e-7),
    ],
    ids=["8", "16", "24", "32", "float", "double"],
)
def test_all_sample_formats(content, precision):
    samples, rate = decode_wav(content, "tone.wav")
    assert (samples.dtype, samples.shape, rate) == (np.float32, (4000, 1), 8000)
    np.testing.assert_allclose(samples[:, 0], TONE, atol=precision)


def test_fit_audio_averages_the_channels():
    samples, rate = decode_wav(wav(np.stack([TONE, 0 * TONE], axis=1).astype(np.float32), 16000), "two.wav")
    assert (samples.shape, rate) == ((4000, 2), 16000)
    np.testing.assert_allclose(fit_audio(samples, rate, 16000), TONE / 2, atol=1e-6)


@pytest.mark.parametrize("rate", [4000, 11_025, 16_000, 22_050, 44_100, 48_000])
def test_resampling_keeps_the_frequency(rate):
    count = rate // 2
    tone = np.sin(2 * np.pi * 440 * np.arange(count) / rate)[:, None]
    found = fit_audio(tone, rate, 8000)
    assert found.dtype == np.float32 and len(found) == -(-count * 8000 // rate)
    expected = np.sin(2 * np.pi * 440 * np.arange(len(found)) / 8000)
    np.testing.assert_allclose(found[200:-200], expected[200:-200], atol=2e-2)


def test_resampling_removes_frequencies_above_nyquist():
    tone = np.sin(2 * np.pi * 6000 * np.arange(24_000) / 48_000)[:, None]  # aliasing would give 2000 Hz
    assert np.abs(fit_audio(tone, 48_000, 8000)[100:-100]).max() < 0.02


def test_16_bit_samples_are_clipped():
    assert to_int16([0, 0.25, 1, -1, 7, -7]).tolist() == [0, 8192, 32767, -32768, 32767, -32768]


GOOD = wav((TONE * 2**15).astype(np.int16))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x.wav is empty: expected a WAV file"),
        (b"ID3\x04 some music", "x.wav is not a readable WAV file: "),
        (GOOD[:30], "x.wav is not a readable WAV file: "),
        (GOOD[:1000], "x.wav is not a readable WAV file: .*EOF"),
        (wav(np.zeros(0, np.int16)), "x.wav (contains no sound|is not a readable WAV)"),
        (wav(np.array([0.0, np.nan], np.float32)), "x.wav contains samples that are not finite numbers"),
        (GOOD[:24] + struct.pack("<I", 0) + GOOD[28:], "x.wav (contains no sound: 4000 samples at 0 Hz|is not a read)"),
    ],
)
def test_invalid_files(content, message):
    with pytest.raises(UserError, match=message):
        decode_wav(content, "x.wav")


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000])
def test_streams_of_unknown_length_are_read_to_the_end(size):
    """Recorders and converters that write to a pipe declare the largest possible size, twice."""
    stream = GOOD[:4] + struct.pack("<I", size) + GOOD[8:40] + struct.pack("<I", size) + GOOD[44:]
    samples, _ = decode_wav(stream, "standard input")
    np.testing.assert_allclose(samples[:, 0], TONE, atol=1e-4)


def test_corrupt_files_raise_only_user_errors():
    generator = np.random.default_rng(0)
    for _ in range(300):
        content = bytearray(GOOD[: generator.integers(1, 200)] if generator.integers(2) else GOOD)
        for position in generator.integers(0, min(len(content), 44), size=3):
            content[position] = generator.integers(256)
        try:
            samples, rate = decode_wav(bytes(content), "x.wav")
        except UserError:
            continue
        assert samples.ndim == 2 and samples.size and rate > 0 and np.isfinite(samples).all()
