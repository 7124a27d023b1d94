"""Vocal tract length perturbation of mel spectrograms."""

import math

import keras
import numpy as np
from keras import ops

from keras_dl.layers.padding import without_padding
from keras_dl.ops.mel import mel, require_edges
from keras_dl.ops.precision import wide


@keras.saving.register_keras_serializable("keras_dl")
class VocalTractPerturbation(keras.layers.Layer):
    """Stretches the frequencies of each mel spectrogram by a random factor, during training only.

    A shorter vocal tract has its resonances at higher frequencies, nearly in proportion. Training with simulated tracts
    of many lengths improves recognition of unseen speakers. Band b of the output is the input at `f_b / factor`,
    interpolated between neighboring bands; the factor is drawn per row, uniformly on a logarithmic scale.

    Args:
        largest: float >= 1; factors are in [1 / largest, largest]. Defaults to 1.2.
        sample_rate, lowest, highest: int and floats, as in the preceding `LogMel`. Default to 8000, 60 and half the
            sample rate.
        seed: int, seed of the factors. Defaults to None, a random seed.
        **kwargs: base layer keyword arguments, such as `name` and `dtype`.

    Call arguments:
        inputs: float tensor `[B, T, bands]`, bands evenly spaced on the mel scale.
        training: bool, whether to stretch.
        mask: bool tensor `[B, T]`, False at padding, which becomes zeros. Defaults to the Keras mask of `inputs`.

    Output shape:
        Same as the input.

    Raises:
        ValueError: if `largest` is below 1, or the limits are in the wrong order or beyond half the sample rate.

    Example:

    >>> import numpy as np
    >>> tone = np.eye(40)[None, [20]]                            # one frame, one band
    >>> stretched = VocalTractPerturbation(1.5, seed=0)(tone, training=True)
    >>> stretched.shape, int(np.argmax(stretched)) != 20
    (TensorShape([1, 1, 40]), True)

    Reference: Jaitly and Hinton 2013, "Vocal tract length perturbation (VTLP) improves speech recognition", ICML
    workshop. https://www.cs.toronto.edu/~hinton/absps/perturb.pdf
    """

    def __init__(self, largest=1.2, sample_rate=8000, lowest=60.0, highest=None, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not largest >= 1:
            raise ValueError(f"`largest` must be at least 1. Received: {largest}")
        require_edges(sample_rate, lowest, highest)
        self.largest, self.sample_rate, self.lowest, self.highest = largest, sample_rate, lowest, highest
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def call(self, inputs, training=False, mask=None):
        inputs = without_padding(ops.cast(inputs, self.compute_dtype), mask)
        if not training:
            return inputs
        bands = inputs.shape[-1]
        low, high = map(float, mel([self.lowest, require_edges(self.sample_rate, self.lowest, self.highest)]))
        step = (high - low) / (bands + 1)
        centers = 700 * np.expm1((low + step * np.arange(1, bands + 1)) / 1127)
        exact = wide(self.compute_dtype)
        exponent = keras.random.uniform((ops.shape(inputs)[0], 1), -1.0, 1.0, exact, self.seed_generator)
        source = ops.convert_to_tensor(centers, exact) * ops.exp(-math.log(self.largest) * exponent)
        position = ops.clip((1127 * ops.log1p(source / 700) - low) / step - 1, 0.0, bands - 1.0)
        # Column b of a row's matrix contains the weights of the two bands next to its position.
        distance = ops.abs(ops.arange(bands, dtype=exact)[None, :, None] - position[:, None, :])
        weights = ops.cast(ops.maximum(1.0 - distance, 0.0), inputs.dtype)
        return ops.matmul(inputs, weights)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        names = ("largest", "sample_rate", "lowest", "highest", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
