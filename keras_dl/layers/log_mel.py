"""Raw sound to a log-mel spectrogram."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_dl")
class LogMel(keras.layers.Layer):
    """The logarithm of the power in bands of the mel scale, one frame every hop.

    Frame t is centred on sample `t * hop`, and there are `ceil(samples / hop)` of them: its Hann window covers half a
    window before and after, with silence outside of the recording. The powers are those of
    `keras.layers.MelSpectrogram`; its own logarithm is not taken, for it looks at the loudest frame of the whole batch,
    and at both ends of the batch it hears the sound backwards.

    Args:
        sample_rate: int, samples a second. Defaults to 8000.
        window: float, seconds of a frame. Defaults to 0.025.
        hop: float, seconds from one frame to the next. Defaults to 0.01.
        bands: int, mel bands. Defaults to 40.
        lowest, highest: float, edges of the bands in Hz. Default to 60 and half of the sample rate.
        floor: float > 0, added to each power: what is much softer is silence. Defaults to 1e-6, about 60 dB below
            speech of full level.
        **kwargs: `name`, `dtype`, as for every layer.

    Call arguments:
        inputs: float tensor `[B, samples]` from -1 to 1.
        mask: bool tensor `[B, samples]`, False at padding, which counts as silence whatever it holds; Keras' mask of
            `inputs` by default.

    Output shape:
        `[B, ceil(samples / hop), bands]`. Its mask is that of the frames' centres.

    Raises:
        ValueError: if a size is not positive, or the window has fewer samples than the hop.

    Example:

    >>> import numpy as np
    >>> tone = np.sin(2 * np.pi * 1000 / 8000 * np.arange(800))[None]
    >>> frames = LogMel()(tone)
    >>> frames.shape, int(np.argmax(frames[0, 5]))               # 1000 Hz is in the band in the middle of the scale
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
        # In half precision a power would overflow, or a soft one vanish.
        sound = ops.cast(inputs, "float32")
        if mask is not None:
            sound = ops.where(mask, sound, 0.0)
        # Silence on both sides, as long as Keras mirrors; before the first sample a whole number of hops.
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
