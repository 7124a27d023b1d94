"""Attention that only moves ahead."""

import keras
from keras import ops

from keras_dl.layers.attention.additive import AdditiveAttention
from keras_dl.layers.attention.base import Attention
from keras_dl.layers.attention.dot import GeneralAttention
from keras_dl.ops.attention import MODES, monotonic_alignment
from keras_dl.ops.attention.precision import wide

SCORES = ("additive", "general")


@keras.saving.register_keras_serializable("keras_dl")
class MonotonicAttention(Attention):
    """Attention that goes on from where the query before it was, and stops at a key with `sigmoid(score + r)`.

    The alignment is what it is in expectation, and sums to 1 at most; see `keras_dl.ops.attention.monotonic_alignment`.
    Noise in training keeps the probabilities near 0 or 1. With `mode="hard"` the layer then, outside of training, stops
    at the first key with a score above 0.

    The T queries of a call follow each other. Masks, causal order and returned weights: see the call arguments of
    `AdditiveAttention`. The weights are always held: the memory that is needed grows with T times S.

    `get_weights()` gives r (), then those of `AdditiveAttention` without bias, or of `GeneralAttention`.

    Args:
        score: `"additive"` (default) or `"general"`.
        units: int > 0, of the additive score; None for the general.
        mode: `"hard"` (default): exact and differentiable in training, hard outside. `"parallel"` and `"recursive"`:
            expectations always, in a few parallel steps or in S of them.
        noise: float, the standard deviation of what is added to scores in training. Defaults to 1.
        score_bias: float, r at first. Defaults to 0; below 0 for long memories.
        normalize: bool, as in `AdditiveAttention`, where it brings a bias; for the general score `use_scale`. Defaults
            to False.
        dropout: float from 0 to below 1, the share of the weights that is dropped in training. Defaults to 0.
        seed: int, of noise and dropout. Defaults to None, another one each time.
        kernel_initializer: initializer of the kernels. Defaults to `"glorot_uniform"`.
        **kwargs: `name`, `dtype`, as for every layer.

    Raises:
        ValueError: for arguments out of range, shapes that do not fit, a memory without any step.

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
            raise ValueError(f"`units` are of the additive score, and needed there. Received: {units!r} with {score!r}")
        if noise < 0:
            raise ValueError(f"`noise` must not be below 0. Received: {noise!r}")
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
        """The alignment before the first query: at the first step of the memory.

        Args:
            value: float tensor `[B, S, Dv]`.

        Returns:
            float tensor `[B, S]`.
        """
        nowhere = super().initial_alignment(value)
        return ops.concatenate([ops.ones_like(nowhere[:, :1]), nowhere[:, 1:]], axis=1)

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
            score += keras.random.normal(ops.shape(score), 0.0, self.noise, exact, seed=self.seed_generator)
        hard = self.mode == "hard" and not training
        stops = ops.cast(score > 0, exact) if hard else ops.sigmoid(score)
        if mask is not None:
            stops = ops.where(mask[:, 0] if len(mask.shape) == 4 else mask, stops, ops.zeros_like(stops))
        if query_mask is not None:  # a query that is none stops wherever the one before it did
            stops = ops.where(query_mask[..., None], stops, ops.ones_like(stops))
        mode = "parallel" if self.mode == "hard" and training else self.mode
        return ops.cast(monotonic_alignment(stops, previous, mode), self.compute_dtype)[:, None]

    def _context(self, query, keys, value, query_mask, value_mask, causal, training):
        weights = self._weights(query, keys, value, query_mask, value_mask, causal, training)
        return self._weighted(weights, value, training)

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
