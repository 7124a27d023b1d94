"""Log-mel spectrogram of a waveform."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_dl")
class LogMel(keras.layers.Layer):
    """Computes the log of the power in mel bands, one frame per hop.

    Frame t is centered on sample `t * hop`, and there are `ceil(samples / hop)` frames: the Hann window covers half a
    window before and after the center, with silence outside of the recording. The powers are those of
    `keras.layers.MelSpectrogram`. Two of its features are not used: its conversion to decibels, which depends on the
    loudest frame of the batch, and its reflection padding, which repeats the recording backwards at both ends.

    Args:
        sample_rate: int, samples per second. Defaults to 8000.
        window: float, length of a frame in seconds. Defaults to 0.025.
        hop: float, seconds from one frame to the next. Defaults to 0.01.
        bands: int, number of mel bands. Defaults to 40.
        lowest, highest: float, limits of the bands in Hz. Default to 60 and half the sample rate.
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
        ValueError: if a size is not positive, or the window has fewer samples than the hop.

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
        self.mel = keras.layers.MelSpectrogram(
            fft_length=self.fft_length,
            sequence_stride=self.stride,
            sequence_length=self.samples,
            sampling_rate=sample_rate,
            num_mel_bins=bands,
            min_freq=lowest,
            max_freq=highest,
            power_to_db=False,
            dtype="float32",
        )
        self.supports_masking = True

    def build(self, input_shape):
        self.mel.build(input_shape)

    def call(self, inputs, mask=None):
        # Powers would overflow or underflow in half precision.
        sound = ops.cast(inputs, "float32")
        if mask is not None:
            sound = ops.where(mask, sound, 0.0)
        # Pad with silence where Keras would reflect; the padding before the first sample is a whole number of hops.
        before = -(-self.fft_length // 2 // self.stride)
        sound = ops.pad(sound, [[0, 0], [before * self.stride, self.fft_length]])
        power = ops.swapaxes(self.mel(sound), 1, 2)
        frames = -(-ops.shape(inputs)[1] // self.stride)
        return ops.cast(ops.log(power[:, before : before + frames] + self.floor), self.compute_dtype)

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
