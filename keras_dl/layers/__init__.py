"""Keras layers for sequences."""

from keras_dl.layers.attention import (
    AdditiveAttention,
    AttentionPooling,
    CosineAttention,
    DotAttention,
    GeneralAttention,
    LocationAttention,
    MonotonicAttention,
    ScaledDotProductAttention,
)
from keras_dl.layers.attention_cell import AttentionCell
from keras_dl.layers.attention_rnn import AttentionRNN
from keras_dl.layers.ctc_output import CTCOutput
from keras_dl.layers.deep_esn import DeepESN, DeepESNCell
from keras_dl.layers.esn import ESN
from keras_dl.layers.esn_cell import ESNCell
from keras_dl.layers.log_mel import LogMel
from keras_dl.layers.peephole_lstm import PeepholeLSTM, PeepholeLSTMCell
from keras_dl.layers.ridge_readout import RidgeReadout
from keras_dl.layers.spec_augment import SpecAugment
from keras_dl.layers.subword_tokenizer import SubwordTokenizer
from keras_dl.layers.tokenizer import Tokenizer
from keras_dl.layers.utterance_normalization import UtteranceNormalization
from keras_dl.layers.vocal_tract_perturbation import VocalTractPerturbation

__all__ = [
    "AdditiveAttention",
    "AttentionCell",
    "AttentionPooling",
    "AttentionRNN",
    "CTCOutput",
    "CosineAttention",
    "DeepESN",
    "DeepESNCell",
    "DotAttention",
    "ESN",
    "ESNCell",
    "GeneralAttention",
    "LocationAttention",
    "LogMel",
    "MonotonicAttention",
    "PeepholeLSTM",
    "PeepholeLSTMCell",
    "RidgeReadout",
    "ScaledDotProductAttention",
    "SpecAugment",
    "SubwordTokenizer",
    "Tokenizer",
    "UtteranceNormalization",
    "VocalTractPerturbation",
]
