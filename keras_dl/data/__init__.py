"""Data sets as `tf.data` pipelines: `load` reads a data set, `batches` prepares it for `fit`."""

from keras_dl.data.batches import Splits as Splits
from keras_dl.data.batches import batches as batches
from keras_dl.data.batches import fingerprint as fingerprint
from keras_dl.data.sources import load as load
