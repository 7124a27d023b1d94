"""Pure functions of tensors, which layers, losses and metrics build on."""

from keras_dl.ops import attention as attention
from keras_dl.ops import ctc as ctc
from keras_dl.ops import decoding as decoding
from keras_dl.ops import ngram as ngram
from keras_dl.ops import sampling as sampling
