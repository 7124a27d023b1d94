"""Streaming and corpus-level metrics for sequences."""

from keras_dl.metrics.bits_per_character import BitsPerCharacter
from keras_dl.metrics.exact_match import ExactMatch
from keras_dl.metrics.impossible_rows import ImpossibleRows
from keras_dl.metrics.label_error_rate import LabelErrorRate
from keras_dl.metrics.nrmse import NRMSE
from keras_dl.metrics.sequence_accuracy import SequenceAccuracy
from keras_dl.metrics.token_accuracy import TokenAccuracy
from keras_dl.metrics.translation_scores import translation_scores
from keras_dl.metrics.word_error_rate import WordErrorRate

__all__ = [
    "BitsPerCharacter",
    "ExactMatch",
    "ImpossibleRows",
    "LabelErrorRate",
    "NRMSE",
    "SequenceAccuracy",
    "TokenAccuracy",
    "WordErrorRate",
    "translation_scores",
]
