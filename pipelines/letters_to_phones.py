"""Pronounces words: from their spelling to phones.

    keras-dl train pipelines/letters_to_phones.py --data cmudict.zip                # the CMU Pronouncing Dictionary
    keras-dl train pipelines/letters_to_phones.py --data cmudict.zip stress=True    # AH0 and AH1 are two phones
    keras-dl predict letters_to_phones --input '{"text": ["keras", "tensorflow"]}'

`--data` is the dictionary: the zip file in which it comes, or its text. Without it, words of invented spelling rules
are pronounced, a stand-in that needs no download.

Words are split, not pronunciations: no word of the test was learned. Where a word has several, each counts as right.

Measured on the 6173 test words of the CMU dictionary after 6 epochs, 11 minutes of one core: phoneme error rate 7.5 %,
word error rate 30.7 %; with greedy search instead of a beam of 5, 7.6 % and 31.0 %.
"""

import functools
import itertools
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_dl import Pipeline
from keras_dl.data import batches, load
from keras_dl.data.ops import teacher_forcing
from keras_dl.data.sources import prepared
from keras_dl.data.vocabulary import characters, symbols
from keras_dl.layers import AdditiveAttention, DotAttention, GeneralAttention, Tokenizer
from keras_dl.losses import SequenceCrossEntropy
from keras_dl.metrics import ExactMatch, TokenAccuracy
from keras_dl.models.seq2seq import RecurrentDecoder, RecurrentEncoder, ScheduledSampling, Seq2Seq
from keras_dl.models.seq2seq.alignment_picture import alignment_picture
from keras_dl.ops.ctc import edit_distance

BUCKETS = [6, 8, 10, 12, 16]
LONGEST = 40
BEAM = {"beam_width": 5, "length_penalty": 0.6}
# Encoder and decoder have the same number of features, as a dot product wants it.
ATTENTION = {"additive": AdditiveAttention, "general": GeneralAttention, "dot": lambda units: DotAttention()}
SAMPLED = 0.25  # of the phones that the decoder reads are its own, at the end of training with scheduled sampling
SHOWN, LETTERS, WORST = 6, 9, 20  # words with a picture, and of so many letters; words in the table of errors


class LettersToPhones(Pipeline):
    """Reads a word both ways, then says its phones one by one, looking at the letters."""

    objective = "val_exact_match"
    direction = "max"
    epochs = 6
    trials = 4
    words = None

    def data(self, hp):
        self.words = self.of(hp)  # which `request` and others need
        source, target = tokenizers(self.words)
        return batches(
            load("pronunciations", **self.words._asdict()),
            batch_size=hp.Choice("batch_size", [64, 128, 256], default=128),
            example=lambda word: teacher_forcing(source(lower(word["source"])), target(word["target"])),
            length=lambda inputs, labels: tf.maximum(tf.shape(inputs["source"])[0], tf.shape(labels)[0]),
            bucket_boundaries=BUCKETS,
            seed=self.seed,
        )

    def build(self, hp):
        source, target = tokenizers(self.of(hp))
        units = hp.Choice("units", [128, 192, 256], default=192)
        cell = hp.Choice("cell", ["lstm", "peephole", "gru"], default="gru")
        attention = ATTENTION[hp.Choice("attention", list(ATTENTION), default="additive")](units)
        options = {"cell": cell, "dropout": hp.Float("dropout", 0.0, 0.4, default=0.1)}
        sampling = {"scheduled_sampling": hp.Boolean("scheduled_sampling", default=False), "seed": self.seed}
        model = Seq2Seq(
            source,
            target,
            RecurrentEncoder(source.size, units // 2, **options),
            RecurrentDecoder(target.size, units, attention=attention, **options, **sampling),
            name="letters_to_phones",
        )
        rate = keras.optimizers.schedules.CosineDecay(
            hp.Float("learning_rate", 1e-3, 1e-2, sampling="log", default=4e-3), decay_steps=self.steps(hp)
        )
        model.compile(
            keras.optimizers.Adam(rate, clipnorm=1.0),
            SequenceCrossEntropy(label_smoothing=hp.Float("label_smoothing", 0.0, 0.2, default=0.0)),
            metrics=[ExactMatch(), TokenAccuracy()],
            jit_compile=False,  # XLA compiles the loops over letters anew for each length
        )
        return model

    def callbacks(self, hp):
        if not hp.get("scheduled_sampling"):
            return []
        return [ScheduledSampling("linear", rate=SAMPLED / self.steps(hp), least=1 - SAMPLED)]

    def of(self, hp):
        # Given, not searched: other phones are another question, and no better or worse answer to the same.
        return Words(self.source, hp.Fixed("stress", False))

    def steps(self, hp):
        """int, the batches of a whole training."""
        words = int(load("pronunciations", **self.of(hp)._asdict()).train.cardinality())
        return self.epochs * int(np.ceil(words / hp.get("batch_size")))

    def signatures(self, model):
        def of_lower_case(answer):
            return lambda text, *more: answer(lower(text), *more)

        made = model.signatures(max_length=LONGEST, top_paths=3, **BEAM)
        return {name: (of_lower_case(answer), inputs) for name, (answer, inputs) in made.items()}

    def request(self, example):
        source, _ = tokenizers(self.words)
        return {"text": np.array([source.text(example[0]["source"]).numpy().decode()])}

    def answer(self, example):
        _, target = tokenizers(self.words)
        return target.text(example[1]).numpy().decode()

    def report(self, model, splits):
        beam, greedy = (error_rates(heard) for heard in judged(self.words, model))
        both = (f"{name.replace('_', ' ')} {rate:.4f}, greedy {greedy[name]:.4f}" for name, rate in beam.items())
        print(f"\nbeam of {BEAM['beam_width']}: {'; '.join(both)}")
        return {**beam, **{f"{name}_greedy": rate for name, rate in greedy.items()}}

    def pictures(self, model, splits):
        beam, _ = judged(self.words, model)
        shown = [word for word in beam if word.said and len(word.letters) >= LETTERS][:SHOWN]
        maps = {}
        if shown:
            decoded = model.decode([word.letters for word in shown], max_length=LONGEST, **BEAM)
            titles = [f"{word.letters}: {word.said}" for word in shown]
            parts = [(list(word.letters), word.said.split()) for word in shown]
            rows = zip(titles, parts, decoded.alignment[:, 0], strict=True)
            maps = {"attention": alignment_picture([(title, *sides, row) for title, sides, row in rows])}
        return {**maps, "worst": worst(beam)}


class Words(NamedTuple):
    """Whose words, and whether their phones have a stress."""

    dictionary: str | None
    stress: bool


class Heard(NamedTuple):
    """What the model says to a word, and how many edits of phones make it the nearest pronunciation of that word."""

    letters: str
    said: str
    right: str
    edits: int


def lower(text):
    return tf.strings.lower(text, encoding="utf-8")


@functools.cache
def tokenizers(words):
    """Of the letters and the phones of the words to train on."""
    pairs = list(load("pronunciations", **words._asdict()).train.as_numpy_iterator())
    letters, phones = characters(pair["source"] for pair in pairs), symbols(pair["target"] for pair in pairs)
    return Tokenizer(letters), Tokenizer(phones, split="spaces")


@functools.cache
def judged(words, model):
    """Two lists of `Heard` of all words of the test split: by beam search, and by greedy search."""
    test = prepared("pronunciations", **words._asdict()).as_dataset(split="test")
    alike = sorted(test.as_numpy_iterator(), key=lambda word: len(word["source"]))  # so that little is padding
    parts = [alike[start : start + 500] for start in range(0, len(alike), 500)]
    return [[heard for part in parts for heard in listen(model, part, search)] for search in (BEAM, {})]


def listen(model, words, search):
    """A `Heard` for each of some words."""
    decoded = model.decode(lower([word["source"] for word in words]), max_length=LONGEST, **search)
    said = model.target_tokenizer.text(decoded.tokens)[:, 0].numpy()
    pairs = [(row, right) for row, word in enumerate(words) for right in word["pronunciations"]]
    phones = (tf.strings.split(texts) for texts in ([said[row] for row, _ in pairs], [right for _, right in pairs]))
    found = [
        Heard(words[row]["source"].decode(), said[row].decode(), right.decode(), int(count))
        for (row, right), count in zip(pairs, edit_distance(*phones).numpy(), strict=True)
    ]
    same_word = itertools.groupby(found, key=lambda heard: heard.letters)
    return [min(several, key=lambda heard: heard.edits) for _, several in same_word]


def error_rates(heard):
    """Edits of phones over the phones that are right, and the share of words with an edit."""
    return {
        "phoneme_error_rate": sum(word.edits for word in heard) / sum(len(word.right.split()) for word in heard),
        "word_error_rate": sum(word.edits > 0 for word in heard) / len(heard),
    }


def worst(heard):
    """A table of the words that are furthest from right."""
    rows = [["edits", "word", "said", "right"]]
    rows += [[word.edits, word.letters, word.said, word.right] for word in sorted(heard, key=lambda word: -word.edits)]
    return "\n".join(f"{edits:>5}  {word:20}  {said:44}  {right}" for edits, word, said, right in rows[: WORST + 1])
