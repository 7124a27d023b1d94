"""Applies the training options that concern the machine: precision, devices, XLA and determinism."""

import contextlib
import functools

import keras
import tensorflow as tf

from keras_dl.compat.keras import reset_layer_names
from keras_dl.pipeline import Pipeline


@contextlib.contextmanager
def hardware(pipeline: Pipeline):
    """A context in which models are built and trained with the pipeline's `precision`, `strategy` and `deterministic`.

    Args:
        pipeline: `Pipeline`.

    Raises:
        UserError: for an invalid option.
    """
    options = pipeline.training_options
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(options.precision)
    try:
        with strategy_of(pipeline).scope() if options.strategy != "none" else contextlib.nullcontext():
            yield
    finally:
        keras.config.set_dtype_policy(before)


def strategy_of(pipeline: Pipeline):
    """Returns the distribution strategy: mirrored over all GPUs, or over all CPU devices if there is no GPU.

    Every call returns the same object: variables of one strategy, such as `Splits.epoch`, cannot be used under another.
    """
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return _mirrored(tuple(device.name for device in devices))


@functools.cache
def _mirrored(devices):
    return tf.distribute.MirroredStrategy(list(devices))


def build(pipeline: Pipeline, hp, seed: int) -> keras.Model:
    """Builds and compiles the pipeline's model; call it within `hardware`.

    Args:
        pipeline: `Pipeline`; its `jit` may override the model's `jit_compile`.
        hp: `keras_tuner.HyperParameters`.
        seed: int, the seed of initial weights and dropout.
    """
    reset_layer_names()
    keras.utils.set_random_seed(seed)
    model = pipeline.build(hp)
    if pipeline.jit != "auto":
        model.jit_compile = pipeline.jit == "on"
    return model
