"""Decoding of WAV files, and conversion to one sample rate and one channel."""

import io
import warnings

import numpy as np

from keras_dl.errors import UserError, reason_of

# Recorders that write to a pipe do not know the length; they declare this size or a larger one.
UNKNOWN_SIZE = 0x7FFFF000


def decode_wav(content: bytes, name: str) -> tuple[np.ndarray, int]:
    """Decodes a WAV file without changing its rate or channels.

    Args:
        content: the content of the file: PCM of 8 to 32 bits, or float.
        name: the name of the file in error messages.

    Returns:
        `(samples, rate)`: float32 `[samples, channels]` from -1 to 1, and the number of samples per second.

    Raises:
        UserError: if the file is empty, truncated or not a WAV file, or contains non-finite samples.
    """
    from scipy.io import wavfile

    if not content:
        raise UserError(f"{name} is empty: expected a WAV file")
    try:
        # SciPy only warns about truncated files and about chunks without sound.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            if int.from_bytes(content[4:8], "little") < UNKNOWN_SIZE:
                warnings.filterwarnings("error", message="Reached EOF prematurely", category=wavfile.WavFileWarning)
            rate, samples = wavfile.read(io.BytesIO(content))
    except Exception as error:  # a broken header can make SciPy raise anything
        raise UserError(f"{name} is not a readable WAV file: {reason_of(error)}") from error
    if not samples.size or rate < 1:
        raise UserError(f"{name} contains no sound: {len(samples)} samples at {rate} Hz")
    samples = samples.reshape(len(samples), -1)
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        samples = (samples / 2.0 ** (8 * samples.dtype.itemsize - 1)).astype(np.float32)
    samples = samples.astype(np.float32)
    if not np.isfinite(samples).all():
        raise UserError(f"{name} contains samples that are not finite numbers")
    return samples, int(rate)


def fit_audio(samples: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    """Converts a recording to mono at the given sample rate.

    Channels are averaged. Resampling uses a polyphase filter, which removes frequencies above the Nyquist frequency of
    the lower rate.

    Args:
        samples: float array `[samples, channels]`.
        rate: int, the sample rate of `samples`.
        sample_rate: int, the sample rate of the result.

    Returns:
        float32 `[ceil(samples * sample_rate / rate)]`.

    Example:

    >>> fit_audio(np.ones([441, 2], "float32"), 44_100, 8000).shape
    (80,)
    """
    mono = samples.mean(axis=1, dtype=np.float64)
    if rate != sample_rate:
        from scipy.signal import resample_poly

        common = np.gcd(rate, sample_rate)
        mono = resample_poly(mono, sample_rate // common, rate // common)
    return mono.astype(np.float32)


def to_int16(waveform: np.ndarray) -> np.ndarray:
    """Converts a waveform with values from -1 to 1 to 16-bit integers; values outside this range are clipped.

    Example:

    >>> to_int16(np.array([0, 0.5, -1, 2.0])).tolist()
    [0, 16384, -32768, 32767]
    """
    return np.clip(np.round(np.asarray(waveform) * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
