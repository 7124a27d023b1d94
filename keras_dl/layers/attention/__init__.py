"""Attention layers, one for each score function, with the same call arguments."""

from keras_dl.layers.attention.additive import AdditiveAttention
from keras_dl.layers.attention.cosine import CosineAttention
from keras_dl.layers.attention.dot import DotAttention, GeneralAttention, ScaledDotProductAttention
from keras_dl.layers.attention.location import LocationAttention
from keras_dl.layers.attention.monotonic import MonotonicAttention
from keras_dl.layers.attention.pooling import AttentionPooling

__all__ = [
    "AdditiveAttention",
    "AttentionPooling",
    "CosineAttention",
    "DotAttention",
    "GeneralAttention",
    "LocationAttention",
    "MonotonicAttention",
    "ScaledDotProductAttention",
]
