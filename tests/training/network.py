"""Small networks to train, their data, and ways to interrupt a training run."""

import keras
import numpy as np
import tensorflow as tf

from keras_dl.compat.keras import reset_layer_names
from keras_dl.data import Splits, batches
from keras_dl.options import parse_objective
from keras_dl.training.fit import BEST, fit
from keras_dl.training.reuse import CompiledModels

MODELS = CompiledModels(most=8)


class Kill(keras.callbacks.Callback):
    """Interrupts a training run after the second batch of an epoch."""

    def __init__(self, epoch, kill):
        super().__init__()
        self.epoch, self.kill, self.present = epoch, kill, None

    def on_epoch_begin(self, epoch, logs=None):
        self.present = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.present, batch) == (self.epoch, 1):
            self.kill()


def interrupt():
    raise KeyboardInterrupt


def data(seed=0):
    """Rows of four numbers, labeled by the sign of their sum: 64 for training, 16 each for validation and test."""
    rows = np.random.default_rng(7).normal(size=(96, 4)).astype("float32")
    split = tf.data.Dataset.from_tensor_slices((rows, (rows.sum(1, keepdims=True) > 0).astype("float32")))
    return batches(Splits(split.take(64), split.skip(64).take(16), split.skip(80)), batch_size=16, seed=seed)


def plain(units=2):
    """Two dense layers, and SGD with momentum."""
    reset_layer_names()
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, "tanh"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), "mse", jit_compile=False)
    return model


def network(rate=0.02):
    """A network with dropout, batch normalization, Adam, and a metric with state."""
    reset_layer_names()
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, "relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(1, "sigmoid"),
        ]
    )
    metric = keras.metrics.Precision(name="precision")
    model.compile(keras.optimizers.Adam(rate), "binary_crossentropy", metrics=[metric], jit_compile=False)
    return model


def train(folder, build=plain, epochs=4, killed_in=None, kill=interrupt, objective="val_loss", **options):
    """Trains a model from its initial values, compiled once; returns it and the result of `fit`."""
    model = MODELS.take(build())
    watchers = [] if killed_in is None else [Kill(killed_in, kill)]
    return model, fit(model, data(), folder, parse_objective(objective), epochs=epochs, watchers=watchers, **options)


def bits(variables):
    """Returns the bytes of each variable, for exact comparisons."""
    return [keras.ops.convert_to_numpy(variable).tobytes() for variable in variables]


def best_bits(folder):
    """Returns the bytes of each variable in the file of the best epoch."""
    with np.load(folder / BEST) as file:
        return [file[name].tobytes() for name in sorted(file.files)]
