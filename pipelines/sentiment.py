"""Classifies the sentiment of texts and shows which words decided it.

    keras-dl tune pipelines/sentiment.py                                  # invented opinions; 1 minute for each model
    keras-dl tune pipelines/sentiment.py --data pos=good.txt,neg=bad.txt  # one text per line, one file per label
    keras-dl train pipelines/sentiment.py --compared attention,mean       # compare fewer poolings
    keras-dl predict sentiment --input '{"text": ["not good at all"]}'

`--data` may also be a file of lines `LABEL<tab>TEXT`, tfds:imdb_reviews or tfds:glue/sst2.

Expected test accuracy on the invented opinions, with the default values: 100% with attention, 98% with the mean, 81%
with the last state. On one-sentence film reviews (10,662, by Pang and Lee 2005), pooling makes no difference: 75, 75
and 76%. The run logs a table of all three, and a picture of the words with the highest attention weights.
"""

import functools

import keras
import keras_tuner as kt
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from keras import layers

from keras_dl import Pipeline
from keras_dl.data import batches, load
from keras_dl.data.ops import words
from keras_dl.data.vocabulary import symbols
from keras_dl.errors import UserError
from keras_dl.layers import AttentionPooling, Tokenizer

POOLINGS = ("attention", "last", "mean")
CELLS = {"lstm": layers.LSTM, "gru": layers.GRU}
BUCKETS = [10, 20, 30, 50, 100, 200]
SHOWN, WIDTH = 10, 105


class Sentiment(Pipeline):
    """A bidirectional recurrent network, pooled by attention, by the mean of its steps, or by its last state."""

    objective = "val_accuracy"
    epochs = 8
    trials = 6
    compared = ",".join(POOLINGS)

    def data(self, hp):
        self.compared = hp.Fixed("compared", ",".join(POOLINGS))  # for `report` and `pictures`
        if unknown := set(self.compared.split(",")) - set(POOLINGS):
            raise UserError(f"compared must be among {', '.join(POOLINGS)}. Received: {', '.join(sorted(unknown))}")
        return batches(
            texts(self.source),
            batch_size(hp),
            example=lambda example: (words(example["text"]), example["label"]),
            length=lambda text, label: tf.size(tf.strings.split(text)),
            bucket_boundaries=BUCKETS,
            seed=self.seed,
        )

    def build(self, hp):
        units, dropout = hp.Choice("units", [16, 32, 64], default=32), hp.Float("dropout", 0.2, 0.6, default=0.5)
        pooling = hp.Choice("pooling", POOLINGS, default="attention")
        cell = CELLS[hp.Choice("cell", list(CELLS), default="lstm")]
        text = keras.Input((), dtype="string", name="text")
        tokenizer = Tokenizer(vocabulary(self.source), split="spaces", name="words")
        embedding = layers.Embedding(tokenizer.size, hp.Choice("embedding", [32, 64], default=64), mask_zero=True)
        x = layers.Dropout(dropout)(embedding(tokenizer(text)))
        x = layers.Bidirectional(cell(units, return_sequences=pooling != "last"), name="reader")(x)
        if pooling == "attention":
            x = AttentionPooling(units, name="pooling")(x)
        elif pooling == "mean":
            x = layers.GlobalAveragePooling1D(name="pooling")(x)
        x = layers.Dropout(dropout)(x)
        logits = layers.Dense(len(labels(self.source)), dtype="float32", name="label")(x)
        model = keras.Model(text, logits, name=pooling)
        rate = keras.optimizers.schedules.CosineDecay(
            hp.Float("learning_rate", 1e-3, 1e-2, sampling="log", default=3e-3),
            decay_steps=self.epochs * -(-int(texts(self.source).train.cardinality()) // batch_size(hp)),
        )
        model.compile(
            keras.optimizers.Adam(rate, clipnorm=1.0),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=False,  # XLA does not support strings
        )
        return model

    def signatures(self, model):
        names, weigh = tf.constant(labels(self.source)), weights_of(model)

        def classify(text):
            text = words(text)
            text = tf.where(text == "", ".", text)  # at least one word
            probability = tf.nn.softmax(model(text, training=False))
            return {
                "label": tf.gather(names, tf.argmax(probability, axis=-1)),
                "score": tf.reduce_max(probability, axis=-1),
                "words": tf.strings.split(text).to_tensor(""),
                "weights": weigh(text),
            }

        return {"serving_default": (classify, [tf.TensorSpec([None], tf.string, name="text")])}

    def request(self, example):
        return {"text": np.array([np.asarray(example[0]).item().decode()])}

    def answer(self, example):
        return labels(self.source)[int(example[1])]

    def report(self, model, splits):
        table, scores, _ = compare(self, splits)
        print(f"\n{table}")
        return {f"accuracy_{name}": score for name, score in scores.items()}

    def pictures(self, model, splits):
        table, _, models = compare(self, splits)
        shown = model if model.name == "attention" else models.get("attention", model)
        classify, _ = self.signatures(shown)["serving_default"]
        examples, targets = next(iter(splits.test.unbatch().shuffle(1000, seed=self.seed).batch(SHOWN)))
        return {
            "words": colored_words(classify(examples), np.array(labels(self.source))[targets]),
            "poolings": table,
        }


def batch_size(hp):
    return hp.Choice("batch_size", [32, 64], default=64)


@functools.cache
def texts(source):
    return load("labelled_text", texts=source) if source else load("labelled_text")


def labels(source):
    return texts(source).features["label"].names


@functools.cache
def vocabulary(source):
    """Returns the words that occur at least twice in training; the others train the embedding of unknown words.

    If no word occurs twice, returns all words.
    """
    lines = texts(source).train.batch(1000).map(lambda examples: words(examples["text"]))
    lines = list(lines.unbatch().as_numpy_iterator())
    return symbols(lines, at_least=2) or symbols(lines)


def weights_of(model):
    """Returns a function of texts `[B]` that computes the weight of each step in the pooling, `[B, T]`."""
    tokenizer, reader = model.get_layer("words"), model.get_layer("reader")
    steps = keras.Model(model.input, reader.output)

    def weights(text):
        mask = tokenizer(text) != 0
        if model.name == "attention":
            return model.get_layer("pooling")(steps(text), mask=mask, return_attention_scores=True)[1]
        used = tf.cast(mask, tf.float32)
        if model.name == "last":  # each direction has its own last step
            position = tf.cumsum(used, axis=1)
            ends = tf.stack([position == 1, position == tf.reduce_sum(used, axis=1, keepdims=True)])
            used *= tf.reduce_sum(tf.cast(ends, tf.float32), axis=0)
        return used / tf.reduce_sum(used, axis=1, keepdims=True)

    return weights


@functools.cache
def compare(pipeline, splits):
    """Trains every compared pooling with the default values; returns a table, test accuracies and models by pooling."""
    models, scores = {}, {}
    table = f"{'pooling':12}{'trained':>10}{'test accuracy':>15}"
    for name in pipeline.compared.split(","):
        hp = kt.HyperParameters()
        hp.values["pooling"] = name
        keras.utils.set_random_seed(pipeline.seed)
        models[name] = pipeline.build(hp)
        # Keeps the epoch with the best validation accuracy, as a trial does.
        best = keras.callbacks.EarlyStopping("val_accuracy", mode="max", patience=99, restore_best_weights=True)
        options = {"epochs": pipeline.epochs, "shuffle": False, "verbose": 0, "callbacks": [best]}
        models[name].fit(splits.train, validation_data=splits.validation, **options)
        scores[name] = models[name].evaluate(splits.test, verbose=0, return_dict=True)["accuracy"]
        trained = sum(np.prod(weight.shape) for weight in models[name].trainable_weights)
        table += f"\n{name:12}{trained:10}{scores[name]:15.4f}"
    return table, scores, models


def colored_words(answers, targets):
    """Draws the words of texts, darker for higher weights, below the predicted label and its score."""
    figure = plt.figure(figsize=(8, 0.45 * (2 + len(targets) * 3)))
    axis, line = figure.add_axes([0.02, 0, 0.96, 1], frameon=False, xticks=[], yticks=[]), 0.0
    for label, score, text, weights, target in zip(*(each.numpy() for each in answers.values()), targets, strict=True):
        correction = "" if label.decode() == target else f"    (correct: {target})"
        axis.text(0, line, f"{label.decode()} {score:.2f}{correction}", fontsize=9, fontweight="bold", color="black")
        line, column = line + 1, 0
        for word, weight in zip(text[text != b""], weights / weights.max(), strict=False):
            word = word.decode(errors="replace")
            if column + len(word) > WIDTH:
                line, column = line + 1, 0
            box = {"facecolor": plt.get_cmap("Oranges")(0.7 * weight), "edgecolor": "none", "pad": 1.5}
            axis.text(column, line, word, family="monospace", fontsize=8.5, bbox=box, parse_math=False)
            column += len(word) + 1
        line += 1.6
    axis.set(xlim=(0, WIDTH), ylim=(line, -1))
    figure.set_figheight(0.24 * (line + 1))
    return figure
