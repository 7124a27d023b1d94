"""Classifies square and sine waves in noise.

`keras-dl tune pipelines/waves.py` takes a minute and reaches a test accuracy of about 95%.
"""

import keras
import numpy as np
import tensorflow as tf

from keras_dl import Pipeline
from keras_dl.data import Splits, batches


def waves(count, seed):
    generator = np.random.default_rng(seed)
    square = generator.integers(0, 2, (count, 1))
    phase = generator.uniform(0, 2 * np.pi, (count, 1)) + np.linspace(0, 4 * np.pi, 50)
    signal = np.where(square, np.sign(np.sin(phase)), np.sin(phase)) + generator.normal(0, 0.5, phase.shape)
    return tf.data.Dataset.from_tensor_slices((signal[..., None].astype("float32"), square)).cache()


class Waves(Pipeline):
    objective = "val_accuracy"
    epochs = 5
    trials = 4

    def data(self, hp):
        examples = Splits(train=waves(2000, seed=1), validation=waves(500, seed=2), test=waves(500, seed=3))
        return batches(examples, hp.Choice("batch_size", [32, 64], default=32), seed=self.seed)

    def build(self, hp):
        signal = keras.Input((None, 1), name="signal")
        x = keras.layers.Bidirectional(keras.layers.LSTM(hp.Choice("units", [8, 16, 32], default=16)))(signal)
        x = keras.layers.Dropout(hp.Float("dropout", 0.0, 0.5, default=0.1))(x)
        model = keras.Model(signal, keras.layers.Dense(1, activation="sigmoid", name="square")(x))
        rate = hp.Float("learning_rate", 1e-3, 3e-2, sampling="log", default=1e-2)
        model.compile(keras.optimizers.Adam(rate), "binary_crossentropy", metrics=["accuracy"])
        return model
