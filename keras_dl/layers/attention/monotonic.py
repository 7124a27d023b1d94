"""Monotonic attention."""

import keras
from keras import ops

from keras_dl.layers.attention.additive import AdditiveAttention
from keras_dl.layers.attention.base import Attention
from keras_dl.layers.attention.dot import GeneralAttention
from keras_dl.ops.attention import MODES, monotonic_alignment
from keras_dl.ops.precision import wide

SCORES = ("additive", "general")


@keras.saving.register_keras_serializable("keras_dl")
class MonotonicAttention(Attention):
    """Attention that moves only forward and stops at a key with probability `sigmoid(score + r)`.

    Each query continues where the previous one stopped. The weights are the expected alignment and sum to at most 1;
    see `keras_dl.ops.attention.monotonic_alignment`. Noise during training pushes the probabilities toward 0 and 1.
    With `mode="hard"`, the layer stops at the first key with a positive score, except during training.

    The T queries of a call are consecutive. The call arguments are those of `AdditiveAttention`. The weights are always
    materialized, so memory grows with T times S.

    `get_weights()` returns r (), then the weights of `AdditiveAttention` without bias, or of `GeneralAttention`.

    Args:
        score: `"additive"` (default) or `"general"`.
        units: int, units of the additive score; None for the general score.
        mode: `"hard"` (default), exact expectations in training and hard alignments otherwise; `"parallel"` or
            `"recursive"`, always expectations, computed in a few parallel steps or in S steps.
        noise: float, standard deviation of the noise added to scores during training. Defaults to 1.
        score_bias: float, initial value of r. Defaults to 0; use negative values for long memories.
        normalize: bool, as in `AdditiveAttention`, but it also adds a bias; the `use_scale` of the general score.
            Defaults to False.
        dropout: float in [0, 1), fraction of the attention weights to drop during training. Defaults to 0.
        seed: int, seed of noise and dropout. Defaults to None, a random seed.
        kernel_initializer: initializer for the kernels. Defaults to `"glorot_uniform"`.
        **kwargs: base layer keyword arguments, such as `name` and `dtype`.

    Raises:
        ValueError: if an argument is out of range, shapes do not match, or the memory is empty.

    Example:

    >>> import keras
    >>> attention = MonotonicAttention(units=8, score_bias=-1.0)
    >>> query, value = keras.ops.ones((2, 4, 3)), keras.ops.ones((2, 6, 5))
    >>> context, weights = attention(query, value, return_attention_scores=True)
    >>> context.shape, weights.shape
    (TensorShape([2, 4, 5]), TensorShape([2, 4, 6]))

    Reference: Raffel et al. 2017, https://arxiv.org/abs/1704.00784
    """

    def __init__(
        self,
        score="additive",
        units=None,
        mode="hard",
        noise=1.0,
        score_bias=0.0,
        normalize=False,
        dropout=0.0,
        seed=None,
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(1, dropout, seed, **kwargs)
        for name, value, known in (("score", score, SCORES), ("mode", mode, MODES)):
            if value not in known:
                raise ValueError(f"`{name}` must be one of {', '.join(known)}. Received: {value!r}")
        if (units is None) != (score == "general"):
            raise ValueError(f"`units` is required only by the additive score. Received: {units!r} with {score!r}")
        if noise < 0:
            raise ValueError(f"`noise` must be at least 0. Received: {noise!r}")
        options = {"kernel_initializer": kernel_initializer, "dtype": self.dtype_policy, "name": "scoring"}
        if score == "additive":
            self.scoring = AdditiveAttention(units, normalize=normalize, use_bias=normalize, **options)
        else:
            self.scoring = GeneralAttention(use_scale=normalize, **options)
        self.kind = score
        self.units = units
        self.mode = mode
        self.noise = float(noise)
        self.initial_score_bias = float(score_bias)
        self.normalize = normalize

    def build(self, query_shape, value_shape, key_shape=None):
        super().build(query_shape, value_shape, key_shape)
        bias = keras.initializers.Constant(self.initial_score_bias)
        self.score_bias = self.add_weight((), bias, name="score_bias")
        self.scoring.build(query_shape, value_shape, key_shape)

    def initial_alignment(self, value):
        """Returns the alignment before the first query: the first step of the memory.

        Args:
            value: float tensor `[B, S, Dv]`.

        Returns:
            float tensor `[B, S]`.
        """
        zeros = super().initial_alignment(value)
        return ops.concatenate([ops.ones_like(zeros[:, :1]), zeros[:, 1:]], axis=1)

    def project_query(self, query):
        return self.scoring.project_query(query)

    def project_key(self, key):
        return self.scoring.project_key(key)

    def score(self, query, keys):
        return self.scoring.score(query, keys)

    def align(self, query, keys, mask, previous, training, query_mask=None):
        exact = wide(self.compute_dtype)
        score = self.score(ops.cast(query, exact), ops.cast(keys, exact))[:, 0] + ops.cast(self.score_bias, exact)
        if training and self.noise:
            score = score + keras.random.normal(ops.shape(score), 0.0, self.noise, exact, seed=self.seed_generator)
        hard = self.mode == "hard" and not training
        stops = ops.cast(score > 0, exact) if hard else ops.sigmoid(score)
        if mask is not None:
            stops = ops.where(mask[:, 0] if len(mask.shape) == 4 else mask, stops, ops.zeros_like(stops))
        if query_mask is not None:  # a masked query stops where the previous query did
            stops = ops.where(query_mask[..., None], stops, ops.ones_like(stops))
        mode = "parallel" if self.mode == "hard" and training else self.mode
        return ops.cast(monotonic_alignment(stops, previous, mode), self.compute_dtype)[:, None]

    def _context(self, query, keys, value, query_mask, value_mask, causal, training):
        weights = self._weights(query, keys, value, query_mask, value_mask, causal, training)
        return self._weighted_mean(weights, value, training)

    def get_config(self):
        config = super().get_config()
        del config["num_heads"]
        return {
            **config,
            "score": self.kind,
            "units": self.units,
            "mode": self.mode,
            "noise": self.noise,
            "score_bias": self.initial_score_bias,
            "normalize": self.normalize,
            "kernel_initializer": keras.initializers.serialize(self.scoring.kernel_initializer),
        }
