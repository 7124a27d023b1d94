"""Losses for sequences."""

from keras_dl.losses.ctc_loss import CTCLoss as CTCLoss
from keras_dl.losses.framewise_cross_entropy import FramewiseCrossEntropy as FramewiseCrossEntropy
from keras_dl.losses.sequence_cross_entropy import SequenceCrossEntropy as SequenceCrossEntropy
