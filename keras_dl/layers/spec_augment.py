"""Parts of a spectrogram hidden while training."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_dl")
class SpecAugment(keras.layers.Layer):
    """Sets random stretches of time and of frequency to zero, in training only.

    For each row and mask a width is drawn from 0 to the widest, then a place for it; masks may overlap. Behind
    `UtteranceNormalization` a zero is the mean of the recording. The time warp of the paper is left out: it found the
    masks to do nearly all of the work.

    Args:
        frequency_masks: int, how many stretches of bands. Defaults to 2.
        frequency_width: int, bands of the widest. Defaults to 8.
        time_masks: int, how many stretches of frames. Defaults to 2.
        time_width: int, frames of the widest. Defaults to 20.
        time_share: float from 0 to 1, the widest as a share of the frames of its row, where that is less. Defaults to
            0.1.
        seed: int, or None (default).
        **kwargs: `name`, `dtype`, as for every layer.

    Call arguments:
        inputs: float tensor `[B, T, bands]`.
        training: bool, whether to hide anything.
        mask: bool tensor `[B, T]`, False at frames of padding behind the others, which come out as zeros; Keras' mask
            of `inputs` by default.

    Output shape:
        As the input.

    Raises:
        ValueError: if a number is negative, or the share is not from 0 to 1.

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
                "the masks and widths must be at least 0 and `time_share` from 0 to 1. Received: "
                f"{frequency_masks}, {frequency_width}, {time_masks}, {time_width}, {time_share}"
            )
        self.frequency_masks, self.frequency_width = frequency_masks, frequency_width
        self.time_masks, self.time_width, self.time_share = time_masks, time_width, time_share
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def call(self, inputs, training=False, mask=None):
        if mask is not None:
            inputs = ops.where(ops.expand_dims(mask, -1), inputs, ops.zeros_like(inputs))
        if not training:
            return inputs
        batch, frames, bands = ops.shape(inputs)
        if mask is None:
            length = ops.broadcast_to(ops.cast(frames, "float32"), (batch,))
        else:
            length = ops.sum(ops.cast(mask, "float32"), axis=1)
        widest = ops.minimum(float(self.time_width), ops.floor(self.time_share * length))
        hidden_frames = self._stretches(frames, length, widest, self.time_masks)
        count = ops.broadcast_to(ops.cast(bands, "float32"), (batch,))
        widest = ops.minimum(float(self.frequency_width), count)
        hidden_bands = self._stretches(bands, count, widest, self.frequency_masks)
        hidden = ops.logical_or(ops.expand_dims(hidden_frames, 2), ops.expand_dims(hidden_bands, 1))
        return ops.where(hidden, ops.zeros_like(inputs), inputs)

    def _stretches(self, size, length, widest, masks):
        """Which of `size` places are hidden, bool `[B, size]`; `length` and `widest` are float `[B]`."""
        shape = (ops.shape(length)[0], masks)
        # From 0 to the widest itself, each equally probable.
        width = ops.floor(self._uniform(shape) * (widest[:, None] + 1))
        start = ops.floor(self._uniform(shape) * (length[:, None] - width + 1))
        place = ops.cast(ops.arange(size), "float32")[None, None]
        inside = ops.logical_and(place >= start[..., None], place < (start + width)[..., None])
        return ops.any(inside, axis=1)

    def _uniform(self, shape):
        return keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        names = ("frequency_masks", "frequency_width", "time_masks", "time_width", "time_share", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
