"""Attention as layers: one for each score function, with the same call."""

from keras_dl.layers.attention.additive import AdditiveAttention as AdditiveAttention
from keras_dl.layers.attention.dot import DotAttention as DotAttention
from keras_dl.layers.attention.dot import GeneralAttention as GeneralAttention
from keras_dl.layers.attention.dot import ScaledDotProductAttention as ScaledDotProductAttention
