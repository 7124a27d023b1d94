"""Losses for sequences."""

from keras_dl.losses.ctc_loss import CTCLoss
from keras_dl.losses.framewise_cross_entropy import FramewiseCrossEntropy
from keras_dl.losses.sequence_cross_entropy import SequenceCrossEntropy

__all__ = [
    "CTCLoss",
    "FramewiseCrossEntropy",
    "SequenceCrossEntropy",
]
