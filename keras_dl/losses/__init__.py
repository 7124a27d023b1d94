"""Losses for sequences."""

from keras_dl.losses.ctc_loss import CTCLoss as CTCLoss
