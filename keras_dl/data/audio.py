"""Sound files as waveforms: what is read, brought to one rate and one channel."""

import io
import warnings

import numpy as np

from keras_dl.errors import UserError, reason_of

# From here on the size of a file says that whoever wrote it to a pipe did not know it.
UNKNOWN = 0x7FFFF000


def decode_wav(content: bytes, name: str) -> tuple[np.ndarray, int]:
    """The samples of a WAV file, as they are in it.

    Args:
        content: the file: PCM of 8 to 32 bits, or float.
        name: what to call it in an error.

    Returns:
        `(samples, rate)`: float32 `[samples, channels]` from -1 to 1, and the samples a second.

    Raises:
        UserError: if it is empty, no WAV file, cut off, or holds something else than finite numbers.
    """
    from scipy.io import wavfile

    if not content:
        raise UserError(f"{name} is empty: expected a WAV file")
    try:
        # Of a file cut off, and of chunks that hold no sound, SciPy only warns.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            if int.from_bytes(content[4:8], "little") < UNKNOWN:
                warnings.filterwarnings("error", message="Reached EOF prematurely", category=wavfile.WavFileWarning)
            rate, samples = wavfile.read(io.BytesIO(content))
    except Exception as error:  # SciPy raises whatever a broken header leads it to
        raise UserError(f"{name} is no WAV file that can be read: {reason_of(error)}") from error
    if not samples.size or rate < 1:
        raise UserError(f"{name} holds no sound: {len(samples)} samples at {rate} Hz")
    samples = samples.reshape(len(samples), -1)
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        samples = (samples / 2.0 ** (8 * samples.dtype.itemsize - 1)).astype(np.float32)
    samples = samples.astype(np.float32)
    if not np.isfinite(samples).all():
        raise UserError(f"{name} holds samples that are no finite numbers")
    return samples, int(rate)


def fit_audio(samples: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    """A recording of any rate and number of channels as one waveform of the rate wanted.

    Channels are averaged. The rate is changed by a polyphase filter, which lets nothing through that the lower of the
    two rates cannot hold.

    Args:
        samples: float array `[samples, channels]`.
        rate: int, its samples a second.
        sample_rate: int, the samples a second wanted.

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
    """A waveform from -1 to 1 in 16 bits; what is louder is cut.

    Example:

    >>> to_int16(np.array([0, 0.5, -1, 2.0])).tolist()
    [0, 16384, -32768, 32767]
    """
    return np.clip(np.round(np.asarray(waveform) * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
