"""TensorFlow Datasets builders that need no network: generated data sets, and the user's own files."""

from keras_dl.data.builders.digit_strings import DigitStrings
from keras_dl.data.builders.labelled_text import LabelledText
from keras_dl.data.builders.mackey_glass import MackeyGlass
from keras_dl.data.builders.number_words import NumberWords
from keras_dl.data.builders.parallel_text import ParallelText
from keras_dl.data.builders.pronunciations import Pronunciations
from keras_dl.data.builders.python_source import PythonSource
from keras_dl.data.builders.sequence_memory import SequenceMemory
from keras_dl.data.builders.series import Series
from keras_dl.data.builders.spoken_digits import SpokenDigits

BUILDERS = (
    DigitStrings,
    LabelledText,
    MackeyGlass,
    NumberWords,
    ParallelText,
    Pronunciations,
    PythonSource,
    SequenceMemory,
    Series,
    SpokenDigits,
)
