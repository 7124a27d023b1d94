"""A pipeline and a small model for tests of exports."""

import keras
import tensorflow as tf

from keras_dl.pipeline import Pipeline

SIGNAL = tf.TensorSpec([None, None, 2], tf.float32, name="signal")


def level(function=None, spec=SIGNAL):
    """Returns the pipeline `level`; its signature is the function of one input, by default that of the model."""
    pipeline = Pipeline()
    pipeline.name = "level"
    if function:
        pipeline.signatures = lambda model: {"serving_default": (function, [spec])}
    return pipeline


def level_model():
    signal = keras.Input((None, 2), name="signal")
    return keras.Model(signal, keras.layers.Dense(1, name="level")(signal))
