"""Sequence-to-sequence models: encoders, decoders, and the model that combines them."""

from keras_dl.models.seq2seq.recurrent_decoder import RecurrentDecoder as RecurrentDecoder
from keras_dl.models.seq2seq.recurrent_encoder import Encoded as Encoded
from keras_dl.models.seq2seq.recurrent_encoder import RecurrentEncoder as RecurrentEncoder
from keras_dl.models.seq2seq.scheduled_sampling import ScheduledSampling as ScheduledSampling
from keras_dl.models.seq2seq.seq2seq import Seq2Seq as Seq2Seq
from keras_dl.models.seq2seq.transformer import TransformerDecoder as TransformerDecoder
from keras_dl.models.seq2seq.transformer import TransformerEncoder as TransformerEncoder
