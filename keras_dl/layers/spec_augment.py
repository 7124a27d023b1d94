"""Random masking of spectrograms during training."""

import keras
from keras import ops

from keras_dl.layers.padding import without_padding


@keras.saving.register_keras_serializable("keras_dl")
class SpecAugment(keras.layers.Layer):
    """Sets random intervals of time and of frequency to zero, during training only.

    For each row and mask, a width is drawn between 0 and the maximum, then a position; masks may overlap. After
    `UtteranceNormalization`, zero is the mean of the recording. The time warping of the paper is omitted, since the
    paper attributes most of the gain to the masks.

    Args:
        frequency_masks: int, number of frequency masks. Defaults to 2.
        frequency_width: int, maximum width of a frequency mask in bands. Defaults to 8.
        time_masks: int, number of time masks. Defaults to 2.
        time_width: int, maximum width of a time mask in frames. Defaults to 20.
        time_share: float in [0, 1], maximum width of a time mask as a fraction of the frames of its row, if smaller
            than `time_width`. Defaults to 0.1.
        seed: int, seed of the masks. Defaults to None, a random seed.
        **kwargs: base layer keyword arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: float tensor `[B, T, bands]`.
        training: bool, whether to apply the masks.
        mask: bool tensor `[B, T]`, False at trailing padding, whose frames become zeros. Defaults to the Keras mask of
            `inputs`.

    Output shape:
        Same as the input.

    Raises:
        ValueError: if a number is negative, or `time_share` is not in [0, 1].

    Example:

    >>> import numpy as np
    >>> hidden = SpecAugment(1, 4, 1, 2, time_share=1.0, seed=1)(np.ones((1, 6, 8)), training=True)
    >>> hidden.shape, bool((hidden.numpy() == 0).any())
    (TensorShape([1, 6, 8]), True)

    Reference: Park et al. 2019, "SpecAugment: a simple data augmentation method for automatic speech recognition",
    https://arxiv.org/abs/1904.08779
    """

    def __init__(
        self,
        frequency_masks=2,
        frequency_width=8,
        time_masks=2,
        time_width=20,
        time_share=0.1,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if min(frequency_masks, frequency_width, time_masks, time_width) < 0 or not 0 <= time_share <= 1:
            raise ValueError(
                "Masks and widths must be at least 0 and `time_share` in [0, 1]. Received: "
                f"{frequency_masks}, {frequency_width}, {time_masks}, {time_width}, {time_share}"
            )
        self.frequency_masks, self.frequency_width = frequency_masks, frequency_width
        self.time_masks, self.time_width, self.time_share = time_masks, time_width, time_share
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def call(self, inputs, training=False, mask=None):
        inputs = without_padding(ops.cast(inputs, self.compute_dtype), mask)
        if not training:
            return inputs
        batch, frames, bands = ops.shape(inputs)
        if mask is None:
            length = ops.broadcast_to(ops.cast(frames, "float32"), (batch,))
        else:
            length = ops.sum(ops.cast(mask, "float32"), axis=1)
        widest = ops.minimum(float(self.time_width), ops.floor(self.time_share * length))
        hidden_frames = self._intervals(frames, length, widest, self.time_masks)
        count = ops.broadcast_to(ops.cast(bands, "float32"), (batch,))
        widest = ops.minimum(float(self.frequency_width), count)
        hidden_bands = self._intervals(bands, count, widest, self.frequency_masks)
        hidden = ops.logical_or(ops.expand_dims(hidden_frames, 2), ops.expand_dims(hidden_bands, 1))
        return ops.where(hidden, ops.zeros_like(inputs), inputs)

    def _intervals(self, size, length, widest, masks):
        """Draws masked positions, bool `[B, size]`; `length` and `widest` are float `[B]`."""
        shape = (ops.shape(length)[0], masks)
        # Uniform from 0 to the maximum inclusive.
        width = ops.floor(self._uniform(shape) * (widest[:, None] + 1))
        start = ops.floor(self._uniform(shape) * (length[:, None] - width + 1))
        place = ops.arange(size, dtype="float32")[None, None]
        inside = ops.logical_and(place >= start[..., None], place < (start + width)[..., None])
        return ops.any(inside, axis=1)

    def _uniform(self, shape):
        return keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        names = ("frequency_masks", "frequency_width", "time_masks", "time_width", "time_share", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
