"""Pure functions of tensors, which layers, losses and metrics build on."""

from keras_dl.ops import attention, ctc, decoding, ngram, sampling

__all__ = [
    "attention",
    "ctc",
    "decoding",
    "ngram",
    "sampling",
]
