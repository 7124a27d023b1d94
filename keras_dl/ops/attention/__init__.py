"""Attention as pure functions: scores, masks, and kernels whose memory grows linearly with the length."""

from keras_dl.ops.attention.additive import additive_attention
from keras_dl.ops.attention.dot_product import dot_product_attention
from keras_dl.ops.attention.masks import causal_mask, masked_softmax
from keras_dl.ops.attention.monotonic import MODES, monotonic_alignment
from keras_dl.ops.attention.scores import (
    additive_score,
    cosine_score,
    dot_score,
    general_score,
    location_score,
    scaled_dot_score,
)

__all__ = [
    "MODES",
    "additive_attention",
    "additive_score",
    "causal_mask",
    "cosine_score",
    "dot_product_attention",
    "dot_score",
    "general_score",
    "location_score",
    "masked_softmax",
    "monotonic_alignment",
    "scaled_dot_score",
]
