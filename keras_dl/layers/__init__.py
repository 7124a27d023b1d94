"""Keras layers for sequences."""

from keras_dl.layers.ctc_output import CTCOutput as CTCOutput
