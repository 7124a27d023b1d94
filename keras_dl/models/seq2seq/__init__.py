"""Sequence-to-sequence models: encoders, decoders, and the model that combines them."""

from keras_dl.models.seq2seq.recurrent_decoder import RecurrentDecoder
from keras_dl.models.seq2seq.recurrent_encoder import Encoded, RecurrentEncoder
from keras_dl.models.seq2seq.scheduled_sampling import ScheduledSampling
from keras_dl.models.seq2seq.seq2seq import Seq2Seq
from keras_dl.models.seq2seq.transformer import TransformerDecoder, TransformerEncoder

__all__ = [
    "Encoded",
    "RecurrentDecoder",
    "RecurrentEncoder",
    "ScheduledSampling",
    "Seq2Seq",
    "TransformerDecoder",
    "TransformerEncoder",
]
