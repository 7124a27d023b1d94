"""Translates number words, letter by letter: dreiundzwanzig -> twenty-three.

    keras-dl train pipelines/number_words.py                          # German to English
    keras-dl train pipelines/number_words.py --languages fr,de        # any two languages of num2words
    keras-dl train pipelines/number_words.py --largest 1000000        # numbers below a million
    keras-dl train pipelines/number_words.py --compared additive      # without a table of all kinds of attention
    keras-dl predict number_words --input '{"text": ["achtundneunzigtausendsieben"]}'

Learned from 20 000 of the numbers below 100 000 and tested on others, never seen, and on longer ones, which no training
had. The run holds heat maps of the attention, and a table of what each kind of attention is worth.

Measured, German to English: after 3 epochs all of 2000 numbers never seen are right, none of 1000 longer ones; after
one epoch 99 % with dot attention, 98 % additive, 96 % general, 81 % without. 9 minutes of processor time for all five.
"""

import functools
from typing import NamedTuple

import keras
import keras_tuner as kt
import numpy as np
import tensorflow as tf

from keras_dl import Pipeline
from keras_dl.data import batches, load
from keras_dl.data.builders.number_words import say
from keras_dl.data.ops import teacher_forcing
from keras_dl.data.sources import prepared
from keras_dl.data.vocabulary import characters
from keras_dl.errors import UserError
from keras_dl.layers import AdditiveAttention, DotAttention, GeneralAttention, Tokenizer
from keras_dl.losses import SequenceCrossEntropy
from keras_dl.metrics import ExactMatch, TokenAccuracy
from keras_dl.models.seq2seq import RecurrentDecoder, RecurrentEncoder, Seq2Seq
from keras_dl.models.seq2seq.alignment_picture import alignment_picture

BUCKETS = [24, 36, 44, 50, 56]
LONGEST = 100
# Encoder and decoder have the same number of features, as a dot product wants it.
ATTENTION = {
    "additive": AdditiveAttention,
    "general": GeneralAttention,
    "dot": lambda units: DotAttention(),
    "none": lambda units: None,
}
COMPARED = 1  # epochs for each kind of attention in the table
SHOWN = (21, 4_756, 90_312, 316_204)


class NumberWords(Pipeline):
    """An encoder that reads both ways, a decoder with attention."""

    objective = "val_exact_match"
    direction = "max"
    epochs = 3
    trials = 4
    words = compared = None

    def data(self, hp):
        self.words, self.compared = words(hp), hp.Fixed("compared", ",".join(ATTENTION))  # for `request` and others
        if unknown := set(self.compared.split(",")) - set(ATTENTION):
            raise UserError(f"compared must be of {', '.join(ATTENTION)}. Received: {', '.join(sorted(unknown))}")
        source, target = tokenizers(*self.words)
        return batches(
            load("number_words", **self.words._asdict()),
            batch_size=hp.Choice("batch_size", [32, 64, 128], default=64),
            example=lambda pair: teacher_forcing(source(pair["source"]), target(pair["target"])),
            length=lambda inputs, labels: tf.shape(labels)[0],
            bucket_boundaries=BUCKETS,
            seed=self.seed,
        )

    def build(self, hp):
        source, target = tokenizers(*words(hp))
        units, cell = hp.Choice("units", [64, 96, 128], default=128), hp.Choice("cell", ["lstm", "gru"], default="gru")
        dropout = hp.Float("dropout", 0.0, 0.3, default=0.1)
        attention = ATTENTION[hp.Choice("attention", list(ATTENTION), default="additive")](units)
        model = Seq2Seq(
            source,
            target,
            RecurrentEncoder(source.size, units // 2, cell=cell, dropout=dropout),
            RecurrentDecoder(target.size, units, cell=cell, attention=attention, dropout=dropout),
            name="number_words",
        )
        pairs = int(load("number_words", **words(hp)._asdict()).train.cardinality())
        rate = keras.optimizers.schedules.CosineDecay(
            hp.Float("learning_rate", 1e-3, 1e-2, sampling="log", default=4e-3),
            decay_steps=self.epochs * int(np.ceil(pairs / hp.get("batch_size"))),
        )
        model.compile(
            keras.optimizers.Adam(rate, clipnorm=1.0),
            SequenceCrossEntropy(),
            metrics=[ExactMatch(), TokenAccuracy()],
            jit_compile=False,  # XLA compiles the loops over letters anew for each length
        )
        return model

    def signatures(self, model):
        return model.signatures(max_length=LONGEST, beam_width=4, top_paths=3)

    def request(self, example):
        source, _ = tokenizers(*self.words)
        return {"text": np.array([source.text(example[0]["source"]).numpy().decode()])}

    def answer(self, example):
        _, target = tokenizers(*self.words)
        return target.text(example[1]).numpy().decode()

    def report(self, model, splits):
        longer, compared = right(model, numbers(self.words, "longer")), compare(self, self.compared)
        print(f"\n{table(compared)}\n{'longer than any learned':26}{longer:12.4f}")
        return {"exact_match_longer": longer, **{f"exact_match_{kind}": share for kind, share in compared.items()}}

    def pictures(self, model, splits):
        examples = []
        language = self.words.languages.split(",")[0]
        for number in SHOWN:
            text = say(number, language)
            decoded = model.decode([text], max_length=LONGEST)
            written = model.target_tokenizer.text(decoded.tokens)[0, 0].numpy().decode()
            if decoded.alignment is not None:
                examples.append((f"{number}: {written}", list(text), list(written), decoded.alignment[0, 0]))
        maps = {"attention": alignment_picture(examples)} if examples else {}
        return {**maps, "attention_table": table(compare(self, self.compared))}


class Words(NamedTuple):
    """Which numbers, in which words."""

    languages: str
    largest: int


def words(hp):
    # Given, not searched: other words are another question, and no better or worse answer to the same.
    return Words(hp.Fixed("languages", "de,en"), hp.Fixed("largest", 100_000))


@functools.cache
def tokenizers(languages, largest):
    """Of the letters of both languages in the training numbers."""
    pairs = list(load("number_words", languages=languages, largest=largest).train.as_numpy_iterator())
    return tuple(Tokenizer(characters(pair[side] for pair in pairs)) for side in ("source", "target"))


def numbers(words, split):
    """Sources and targets of a split, two lists of str."""
    pairs = prepared("number_words", **words._asdict()).as_dataset(split=split).as_numpy_iterator()
    return zip(*((pair["source"].decode(), pair["target"].decode()) for pair in pairs), strict=True)


def right(model, pairs):
    """The share of sources that the model by itself translates without a mistake."""
    sources, targets = pairs
    hits = 0
    for start in range(0, len(sources), 250):
        decoded = model.decode(sources[start : start + 250], max_length=LONGEST)
        written = model.target_tokenizer.text(decoded.tokens)[:, 0].numpy()
        hits += sum(text.decode() == target for text, target in zip(written, targets[start : start + 250], strict=True))
    return hits / len(sources)


@functools.cache
def compare(pipeline, kinds):
    """`{kind of attention: share of the test numbers translated without a mistake}`, all trained alike and shortly."""
    found = {}
    for kind in kinds.split(","):
        hp = kt.HyperParameters()
        hp.values.update(attention=kind, **pipeline.words._asdict())
        keras.utils.set_random_seed(pipeline.seed)
        train, model = pipeline.data(hp).train, pipeline.build(hp)
        model.fit(train, epochs=COMPARED, shuffle=False, verbose=0)
        found[kind] = right(model, numbers(pipeline.words, "test"))
    return found


def table(compared):
    lines = [f"{kind:26}{share:12.4f}" for kind, share in compared.items()]
    return "\n".join([f"{'attention':26}{'exact match':>12}", *lines])
