"""Log-mel spectrogram of a waveform."""

import warnings

import keras
import numpy as np
from keras import ops

from keras_dl.ops.mel import band_limits, mel_filters, require_edges
from keras_dl.ops.precision import wide


@keras.saving.register_keras_serializable("keras_dl")
class LogMel(keras.layers.Layer):
    """Computes the log of the power in mel bands, one frame per hop.

    Frame t is centered on sample `t * hop`, and there are `ceil(samples / hop)` frames: the Hann window covers half a
    window before and after the center, with silence outside the recording. The powers are those of
    `keras.layers.MelSpectrogram`, which also converts them to decibels, depending on the loudest frame of the batch,
    and mirrors the recording at both ends.

    Args:
        sample_rate: int, samples per second. Defaults to 8000.
        window: float, length of a frame in seconds. Defaults to 0.025.
        hop: float, seconds from one frame to the next. Defaults to 0.01.
        bands: int, number of mel bands. Defaults to 40.
        lowest, highest: float, limits of the bands in Hz, from 0 to half the sample rate. Default to 60 and half the
            sample rate.
        floor: float > 0, added to each power, so that much lower powers count as silence. Defaults to 1e-6, about 60 dB
            below speech at full level.
        **kwargs: base layer keyword arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: float tensor `[B, samples]` from -1 to 1.
        mask: bool tensor `[B, samples]`, False at padding, which is treated as silence. Defaults to the Keras mask of
            `inputs`.

    Output shape:
        `[B, ceil(samples / hop), bands]`. Its mask is the mask at the centers of the frames.

    Raises:
        ValueError: if a size is not positive, the window has fewer samples than the hop, or the limits are in the wrong
            order or beyond half the sample rate.

    Warns:
        UserWarning: if a band lies between two bins of the transform, so that its power is always 0.

    Example:

    >>> import numpy as np
    >>> tone = np.sin(2 * np.pi * 1000 / 8000 * np.arange(800))[None]
    >>> frames = LogMel()(tone)
    >>> frames.shape, int(np.argmax(frames[0, 5]))               # 1000 Hz is in the middle of the mel scale
    (TensorShape([1, 10, 40]), 17)
    """

    def __init__(
        self, sample_rate=8000, window=0.025, hop=0.01, bands=40, lowest=60.0, highest=None, floor=1e-6, **kwargs
    ):
        super().__init__(**kwargs)
        self.sample_rate, self.window, self.hop, self.bands = sample_rate, window, hop, bands
        self.lowest, self.highest, self.floor = lowest, highest, floor
        self.samples, self.stride = round(window * sample_rate), round(hop * sample_rate)
        if not 1 <= self.stride <= self.samples or bands < 1 or not floor > 0:
            raise ValueError(
                "`window` must be at least `hop`, both at least one sample, `bands` at least 1 and `floor` above 0. "
                f"Received: window={window}, hop={hop}, sample_rate={sample_rate}, bands={bands}, floor={floor}"
            )
        self.fft_length = 2 ** (self.samples - 1).bit_length()
        highest = require_edges(sample_rate, lowest, highest)
        self.filters = mel_filters(self.fft_length // 2 + 1, bands, sample_rate, lowest, highest)
        if len(empty := np.flatnonzero(~self.filters.any(axis=0))):
            low, high = band_limits(empty[0], bands, lowest, highest)
            warnings.warn(
                f"{len(empty)} of {bands} mel bands contain no bin of the transform, so their power is always 0: "
                f"bands {', '.join(map(str, empty))} (the first from {low:.0f} to {high:.0f} Hz; the bins are "
                f"{sample_rate / self.fft_length:.0f} Hz apart). Use fewer bands or a longer window.",
                stacklevel=2,
            )
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(ndim=2)

    def call(self, inputs, mask=None):
        exact = wide(self.compute_dtype)  # powers would overflow or underflow in half precision
        sound = ops.cast(inputs, exact)
        if mask is not None:
            sound = ops.where(mask, sound, 0.0)
        sound = ops.pad(sound, [[0, 0], [self.fft_length // 2, self.fft_length]])
        parts = ops.stft(sound, self.samples, self.stride, self.fft_length, window="hann", center=False)
        power = ops.square(parts[0]) + ops.square(parts[1])
        frames = -(-ops.shape(inputs)[1] // self.stride)
        bands = ops.matmul(power[:, :frames], ops.convert_to_tensor(self.filters, exact))
        return ops.cast(ops.log(bands + self.floor), self.compute_dtype)

    def compute_mask(self, inputs, mask=None):
        return None if mask is None else mask[:, :: self.stride]

    def compute_output_shape(self, input_shape):
        batch, samples = input_shape
        return (batch, None if samples is None else -(-samples // self.stride), self.bands)

    def compute_output_spec(self, inputs, mask=None):
        return keras.KerasTensor(self.compute_output_shape(inputs.shape), dtype=self.compute_dtype)

    def get_config(self):
        names = ("sample_rate", "window", "hop", "bands", "lowest", "highest", "floor")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
