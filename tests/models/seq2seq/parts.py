"""Small models of each kind, shared by the tests."""

import functools

import numpy as np

from keras_dl.layers import AdditiveAttention, DotAttention, GeneralAttention, Tokenizer
from keras_dl.models.seq2seq import RecurrentDecoder, RecurrentEncoder, Seq2Seq, TransformerDecoder, TransformerEncoder

SOURCE, TARGET = Tokenizer(list("abcdefg")), Tokenizer(list("xyzw"))
DECODERS = {
    "additive": lambda **o: RecurrentDecoder(TARGET.size, 8, attention=AdditiveAttention(6), **o),
    "bahdanau": lambda **o: RecurrentDecoder(TARGET.size, 8, attention=AdditiveAttention(6), query="previous", **o),
    "general_deep": lambda **o: RecurrentDecoder(TARGET.size, 8, depth=2, attention=GeneralAttention(8), **o),
    "dot_unfed": lambda **o: RecurrentDecoder(TARGET.size, 8, attention=DotAttention(), input_feeding=False, **o),
    "cho": lambda **o: RecurrentDecoder(TARGET.size, 8, cell="gru", **o),
    "sutskever": lambda **o: RecurrentDecoder(TARGET.size, 8, depth=2, context="first_state", **o),
    "peephole": lambda **o: RecurrentDecoder(TARGET.size, 8, cell="peephole", attention=AdditiveAttention(6), **o),
    "transformer": lambda **o: TransformerDecoder(TARGET.size, 8, heads=2, **o),
}


def small_model(kind, **options):
    """A Seq2Seq with random weights that are large enough for different answers."""
    if kind == "transformer":
        encoder = TransformerEncoder(SOURCE.size, 8, heads=2, depth=1)
    else:
        encoder = RecurrentEncoder(SOURCE.size, 4)
    model = Seq2Seq(SOURCE, TARGET, encoder, DECODERS[kind](**options))
    generator = np.random.default_rng(5)
    for weight in model.trainable_weights:
        weight.assign(generator.normal(0, 0.7, weight.shape))
    return model


@functools.cache
def shared_model(kind):
    """The `small_model` of a kind, for tests that do not change it: graphs are compiled once."""
    return small_model(kind)
