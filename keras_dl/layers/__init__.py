"""Keras layers for sequences."""

from keras_dl.layers.attention import AdditiveAttention as AdditiveAttention
from keras_dl.layers.attention import AttentionPooling as AttentionPooling
from keras_dl.layers.attention import CosineAttention as CosineAttention
from keras_dl.layers.attention import DotAttention as DotAttention
from keras_dl.layers.attention import GeneralAttention as GeneralAttention
from keras_dl.layers.attention import LocationAttention as LocationAttention
from keras_dl.layers.attention import MonotonicAttention as MonotonicAttention
from keras_dl.layers.attention import ScaledDotProductAttention as ScaledDotProductAttention
from keras_dl.layers.attention_cell import AttentionCell as AttentionCell
from keras_dl.layers.attention_rnn import AttentionRNN as AttentionRNN
from keras_dl.layers.ctc_output import CTCOutput as CTCOutput
from keras_dl.layers.deep_esn import DeepESN as DeepESN
from keras_dl.layers.deep_esn import DeepESNCell as DeepESNCell
from keras_dl.layers.esn import ESN as ESN
from keras_dl.layers.esn_cell import ESNCell as ESNCell
from keras_dl.layers.log_mel import LogMel as LogMel
from keras_dl.layers.peephole_lstm import PeepholeLSTM as PeepholeLSTM
from keras_dl.layers.peephole_lstm import PeepholeLSTMCell as PeepholeLSTMCell
from keras_dl.layers.ridge_readout import RidgeReadout as RidgeReadout
from keras_dl.layers.spec_augment import SpecAugment as SpecAugment
from keras_dl.layers.subword_tokenizer import SubwordTokenizer as SubwordTokenizer
from keras_dl.layers.tokenizer import Tokenizer as Tokenizer
from keras_dl.layers.utterance_normalization import UtteranceNormalization as UtteranceNormalization
from keras_dl.layers.vocal_tract_perturbation import VocalTractPerturbation as VocalTractPerturbation
