"""Streaming and corpus-level metrics for sequences."""

from keras_dl.metrics.bits_per_character import BitsPerCharacter as BitsPerCharacter
from keras_dl.metrics.exact_match import ExactMatch as ExactMatch
from keras_dl.metrics.impossible_rows import ImpossibleRows as ImpossibleRows
from keras_dl.metrics.label_error_rate import LabelErrorRate as LabelErrorRate
from keras_dl.metrics.nrmse import NRMSE as NRMSE
from keras_dl.metrics.sequence_accuracy import SequenceAccuracy as SequenceAccuracy
from keras_dl.metrics.token_accuracy import TokenAccuracy as TokenAccuracy
from keras_dl.metrics.translation_scores import translation_scores as translation_scores
from keras_dl.metrics.word_error_rate import WordErrorRate as WordErrorRate
