"""Features as they differ from the mean of their sequence."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_dl")
class UtteranceNormalization(keras.layers.Layer):
    """Shifts and scales each feature of a sequence to mean 0 and variance 1 over time.

    Of log-mel frames this takes away how loud a recording is and how its microphone colours it. `running=True` uses the
    frames until now alone, for sequences that are heard while they go on: the frames begin with `prior_frames` more,
    whose mean and variance are learned, so that the first ones are not divided by a variance of nothing.

    Args:
        per_feature: bool, whether each feature has a mean and a variance of its own, or all share one: how loud a
            recording is then goes, and the shape of its spectrum stays. Defaults to True.
        running: bool, whether only frames before and at t count for frame t. Defaults to False.
        prior_frames: float > 0, how many frames what is learned counts for. Defaults to 50.
        epsilon: float > 0, added to the variance. Defaults to 1e-3.
        **kwargs: `name`, `dtype`, as for every layer.

    Call arguments:
        inputs: float tensor `[B, T, features]`.
        mask: bool tensor `[B, T]`, False at frames of padding, which count for nothing and come out as zeros, whatever
            they hold; Keras' mask of `inputs` by default.

    Output shape:
        As the input.

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

    def build(self, input_shape):
        if self.running:
            shape = (input_shape[-1] if self.per_feature else 1,)
            self.prior_mean = self.add_weight(shape=shape, initializer="zeros", name="prior_mean")
            self.prior_log_variance = self.add_weight(shape=shape, initializer="zeros", name="prior_log_variance")

    def call(self, inputs, mask=None):
        frames = ops.cast(inputs, "float32")  # sums of many frames
        if mask is None:
            counted = ops.ones_like(frames[..., :1])
        else:
            counted = ops.cast(ops.expand_dims(mask, -1), "float32")
            frames = ops.where(ops.expand_dims(mask, -1), frames, 0.0)
        if self.running:
            prior = ops.cast(self.prior_mean, "float32")
            # Around the prior's mean, squares lose no digits to a mean far from 0.
            shifted = (frames - prior) * counted
            count = ops.cumsum(counted, axis=1) + self.prior_frames
            mean = self._shared(ops.cumsum(shifted, axis=1) / count)
            prior_square = self.prior_frames * ops.exp(ops.cast(self.prior_log_variance, "float32"))
            square = self._shared((ops.cumsum(ops.square(shifted), axis=1) + prior_square) / count)
            variance = ops.maximum(square - ops.square(mean), 0.0)
        else:
            count = ops.maximum(ops.sum(counted, axis=1, keepdims=True), 1.0)
            shifted = frames - self._shared(ops.sum(frames, axis=1, keepdims=True) / count)
            variance = self._shared(ops.sum(ops.square(shifted) * counted, axis=1, keepdims=True) / count)
            mean = 0.0
        normal = (shifted - mean) * ops.rsqrt(variance + self.epsilon) * counted
        return ops.cast(normal, self.compute_dtype)

    def _shared(self, moment):
        return moment if self.per_feature else ops.mean(moment, axis=-1, keepdims=True)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        names = ("per_feature", "running", "prior_frames", "epsilon")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
