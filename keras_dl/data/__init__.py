"""Data sets as `tf.data` pipelines: `load` reads a data set, `batches` prepares it for `fit`."""

from keras_dl.data.batches import Splits, batches, fingerprint
from keras_dl.data.sources import load

__all__ = [
    "Splits",
    "batches",
    "fingerprint",
    "load",
]
