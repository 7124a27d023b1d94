"""Writes Python: a character language model of the standard library's source.

    keras-dl tune pipelines/python_source.py                       # 3 minutes on 2 cores
    keras-dl tune pipelines/python_source.py --data notes.txt      # any text file, or tfds:tiny_shakespeare

Expected: 2.09 test bits per character; gzip needs 2.24, the best n-gram model of the same text 2.08.
"""

import dataclasses
import functools
import zlib

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from keras_dl import Pipeline
from keras_dl.data import Splits, batches, load
from keras_dl.data.ops import windows
from keras_dl.errors import UserError
from keras_dl.metrics import BitsPerCharacter
from keras_dl.models import language_model, one_step
from keras_dl.ops.checks import limited
from keras_dl.ops.ngram import LONGEST, count, witten_bell
from keras_dl.ops.sampling import complete

# In bytes. Training windows are short: many small steps learn more in a minute than a few large ones.
WINDOW, EPOCH = 32, 512_000
# Evaluation windows are longer; except at the start of a file, each prediction has at least 64 bytes of context.
EVALUATION_WINDOW, CONTEXT = 512, 64
PROMPTS = ["", "def ", "import ", "class Error(", "    for "]
STYLES = {"greedy": (0.0, 0), "temperature 0.5": (0.5, 0), "temperature 0.8, the 20 most probable": (0.8, 20)}


class PythonSource(Pipeline):
    """Predicts the next byte."""

    objective = "val_bits_per_character"
    epochs = 3
    trials = 3

    def data(self, hp):
        batch_size = hp.Choice("batch_size", [16, 32, 64], default=16)
        splits = batches(windowed(self.source), batch_size, evaluation_batch_size=64, seed=self.seed)
        # Each epoch draws new windows, so its duration does not depend on the size of the text.
        return dataclasses.replace(splits, train=splits.train.take(EPOCH // WINDOW // batch_size))

    def build(self, hp):
        model = language_model(
            units=hp.Choice("units", [96, 128], default=128),
            depth=hp.Choice("depth", [1, 2], default=2),
            dropout=hp.Float("dropout", 0.0, 0.3, default=0.05),
        )
        # This high rate requires a warm-up and a small `beta_2`.
        steps = self.epochs * int(self.data(hp).train.cardinality())
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0,
            decay_steps=steps,
            warmup_target=hp.Float("learning_rate", 5e-3, 3e-2, sampling="log", default=2e-2),
            warmup_steps=1 + steps // 20,
        )
        model.compile(
            keras.optimizers.Adam(rate, beta_2=0.98, clipnorm=0.5),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            weighted_metrics=[BitsPerCharacter(utf8=True)],
            jit_compile=False,  # on a CPU, XLA takes longer to compile than it saves
        )
        return model

    def signatures(self, model):
        step, start = one_step(model)

        def finish(prompt):
            return {"text": complete(step, start, prompt, length=200, temperature=0.5)}

        def finish_with_options(prompt, length, temperature, top_k, seed):
            length = limited("length", length, 0, 10_000, rows=tf.shape(prompt)[0], most_in_all=1_000_000)
            return {"text": complete(step, start, prompt, length, temperature, top_k, seed)}

        # TF Serving has no default values, so the default signature takes only a prompt. Inputs have one value per row.
        types = {"prompt": "string", "length": "int32", "temperature": "float32", "top_k": "int32", "seed": "int32"}
        inputs = [tf.TensorSpec([None], dtype, name=name) for name, dtype in types.items()]
        return {"serving_default": (finish, inputs[:1]), "complete": (finish_with_options, inputs)}

    def request(self, example):
        return {"prompt": np.array([text_of(example)[:80]])}

    def answer(self, example):
        return text_of(example)[80:280]

    def report(self, model, splits):
        return baselines(self.source)

    def pictures(self, model, splits):
        samples = ""
        for style, (temperature, top_k) in STYLES.items():
            # With one seed for all, samples with equal probabilities would be equal.
            for text in complete(*one_step(model), PROMPTS, 200, temperature, top_k, range(len(PROMPTS))).numpy():
                samples += f"==== {style}\n{text.decode()}\n\n"
        bits = {"model": model.evaluate(splits.test, verbose=0, return_dict=True)["bits_per_character"]}
        bits |= {name.removesuffix("_bits_per_character"): value for name, value in baselines(self.source).items()}
        figure, axis = plt.subplots(figsize=(5, 2), layout="constrained")
        axis.bar_label(axis.barh(list(bits), list(bits.values())), fmt="%.2f")
        axis.set(xlabel="test bits per character", xlim=(0, 1.2 * max(bits.values())))
        axis.invert_yaxis()
        return {"samples": samples, "bits_per_character": figure}


def text_of(example):
    """Returns the text of an example, without characters that are cut off at either end of the window."""
    return bytes(np.asarray(example[1], np.uint8)).rstrip(b"\0").decode(errors="ignore")


def texts(source):
    splits = load(source) if source and source.startswith("tfds:") else load("python_source", text=source)
    if "text" not in splits.features:
        raise UserError(f"--data requires a data set with the feature text. {source} has: {', '.join(splits.features)}")
    return splits


@functools.cache
def windowed(source):
    def cut(split, length, context):
        pieces = split.flat_map(lambda e: tf.data.Dataset.from_tensor_slices(windows(e["text"], length, context)))
        # Shuffling all of them requires their number.
        return pieces.apply(tf.data.experimental.assert_cardinality(sum(1 for _ in pieces)))

    train, validation, test = texts(source)
    return Splits(
        cut(train, WINDOW, 0), cut(validation, EVALUATION_WINDOW, CONTEXT), cut(test, EVALUATION_WINDOW, CONTEXT)
    )


@functools.cache
def baselines(source):
    """Returns bits per character of gzip and of an n-gram model whose order is chosen on the validation text."""
    train, validation, test = (b"".join(e["text"] for e in split.as_numpy_iterator()) for split in texts(source))
    tables = count(train, LONGEST)
    order = np.argmin(-np.log2(witten_bell(tables, validation)).sum(axis=1))
    bits = {"gzip": 8 * len(zlib.compress(test, 9)), "ngram": -np.log2(witten_bell(tables, test)[order]).sum()}
    return {f"{name}_bits_per_character": float(value / len(test.decode())) for name, value in bits.items()}
