"""Normalization of features over the time axis of each sequence."""

import keras
from keras import ops

from keras_dl.layers.padding import without_padding
from keras_dl.ops.precision import wide


@keras.saving.register_keras_serializable("keras_dl")
class UtteranceNormalization(keras.layers.Layer):
    """Shifts and scales each feature of a sequence to mean 0 and variance 1 over time.

    For log-mel frames, this removes the loudness of the recording and the coloration of the microphone. With
    `running=True`, only the current and earlier frames are used, for streaming. The statistics then start from
    `prior_frames` virtual frames with learned mean and variance, so that the first frames are not divided by a variance
    of zero.

    Args:
        per_feature: bool, whether each feature has its own mean and variance or all share one, which removes the
            loudness but keeps the shape of the spectrum. Defaults to True.
        running: bool, whether the statistics of frame t include only the frames up to t. Defaults to False.
        prior_frames: float > 0, weight of the learned statistics in frames. Defaults to 50.
        epsilon: float > 0, added to the variance. Defaults to 1e-3.
        **kwargs: base layer keyword arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: float tensor `[B, T, features]`.
        mask: bool tensor `[B, T]`, False at padding, which is ignored and becomes zeros. Defaults to the Keras mask of
            `inputs`.

    Output shape:
        Same as the input.

    Raises:
        ValueError: if `prior_frames` or `epsilon` is not positive.

    Example:

    >>> import numpy as np
    >>> UtteranceNormalization(epsilon=1e-9)(np.array([[[1.0], [3.0]]], "float32")).numpy().round(3).tolist()
    [[[-1.0], [1.0]]]

    Reference: Viikki and Laurila 1998, "Cepstral domain segmental feature vector normalization for noise robust speech
    recognition", Speech Communication 25.
    """

    def __init__(self, per_feature=True, running=False, prior_frames=50.0, epsilon=1e-3, **kwargs):
        super().__init__(**kwargs)
        self.per_feature, self.running = per_feature, running
        self.prior_frames, self.epsilon = prior_frames, epsilon
        if not prior_frames > 0 or not epsilon > 0:
            raise ValueError(f"`prior_frames` and `epsilon` must be above 0. Received: {prior_frames}, {epsilon}")
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def build(self, input_shape):
        if self.running:
            shape = (input_shape[-1] if self.per_feature else 1,)
            self.prior_mean = self.add_weight(shape=shape, initializer="zeros", name="prior_mean")
            self.prior_log_variance = self.add_weight(shape=shape, initializer="zeros", name="prior_log_variance")

    def call(self, inputs, mask=None):
        exact = wide(self.compute_dtype)  # half precision cannot sum many frames
        frames = without_padding(ops.cast(inputs, exact), mask)
        valid = ops.ones_like(frames[..., :1]) if mask is None else ops.cast(mask, exact)[..., None]
        if self.running:
            prior = ops.cast(self.prior_mean, exact)
            # Relative to the prior mean, squares stay precise even if the mean is far from 0.
            shifted = (frames - prior) * valid
            count = ops.cumsum(valid, axis=1) + self.prior_frames
            mean = self._shared(ops.cumsum(shifted, axis=1) / count)
            prior_square = self.prior_frames * ops.exp(ops.cast(self.prior_log_variance, exact))
            square = self._shared((ops.cumsum(ops.square(shifted), axis=1) + prior_square) / count)
            variance = ops.maximum(square - ops.square(mean), 0.0)
        else:
            count = ops.maximum(ops.sum(valid, axis=1, keepdims=True), 1.0)
            shifted = frames - self._shared(ops.sum(frames, axis=1, keepdims=True) / count)
            variance = self._shared(ops.sum(ops.square(shifted) * valid, axis=1, keepdims=True) / count)
            mean = 0.0
        normal = (shifted - mean) * ops.rsqrt(variance + self.epsilon) * valid
        return ops.cast(normal, self.compute_dtype)

    def _shared(self, moment):
        return moment if self.per_feature else ops.mean(moment, axis=-1, keepdims=True)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        names = ("per_feature", "running", "prior_frames", "epsilon")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
