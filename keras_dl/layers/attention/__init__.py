"""Attention layers, one for each score function, with the same call arguments."""

from keras_dl.layers.attention.additive import AdditiveAttention as AdditiveAttention
from keras_dl.layers.attention.cosine import CosineAttention as CosineAttention
from keras_dl.layers.attention.dot import DotAttention as DotAttention
from keras_dl.layers.attention.dot import GeneralAttention as GeneralAttention
from keras_dl.layers.attention.dot import ScaledDotProductAttention as ScaledDotProductAttention
from keras_dl.layers.attention.location import LocationAttention as LocationAttention
from keras_dl.layers.attention.monotonic import MonotonicAttention as MonotonicAttention
from keras_dl.layers.attention.pooling import AttentionPooling as AttentionPooling
