"""Data sets of ours as TensorFlow Datasets builders, prepared from what is installed, without a network."""

from keras_dl.data.builders.digit_strings import DigitStrings
from keras_dl.data.builders.python_source import PythonSource

BUILDERS = (DigitStrings, PythonSource)
