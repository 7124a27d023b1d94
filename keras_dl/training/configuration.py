"""Trains a pipeline with one set of hyperparameters, and loads the model of the best epoch."""

import contextlib
import copy
import dataclasses
import functools
from pathlib import Path

import keras
import keras_tuner as kt
import tensorflow as tf

from keras_dl.compat.keras import flat_layers, reset_layer_names
from keras_dl.pipeline import Pipeline
from keras_dl.tracking.epochs import EpochLogger
from keras_dl.training.fit import BEST, Progress, fit
from keras_dl.training.reuse import CompiledModels
from keras_dl.training.shared_data import SharedData
from keras_dl.training.state import read_variables


def train_configuration(
    pipeline: Pipeline,
    values: kt.HyperParameters,
    folder: Path,
    models: CompiledModels,
    data: SharedData,
    execution: int = 0,
    logger: EpochLogger | None = None,
    **options,
) -> Progress:
    """Trains the pipeline's model with one set of hyperparameters, or resumes an interrupted training run.

    `models` and `data` are those of this process. `execution` is added to the seed of the model; the data, and so the
    validation and test splits, keep the pipeline's seed. Further options are passed to `fit`.
    """
    with hardware(pipeline):
        model = build(_executed(pipeline, execution), values, pipeline.seed + execution)
        splits = data(values)
        give_variables(model, splits.train)
        if pipeline.strategy == "none":
            model = models.take(model)
        if logger:
            splits = dataclasses.replace(splits, train=logger.watch(splits.train))
        options = {"epochs": pipeline.epochs, "watchers": [logger] if logger else [], **options}
        return fit(
            model,
            splits,
            folder,
            pipeline.goal,
            callbacks=pipeline.callbacks(values),
            nan_patience=pipeline.nan_patience,
            **options,
        )


def best_model(pipeline: Pipeline, values: kt.HyperParameters, folder: Path, execution: int = 0) -> keras.Model:
    """Returns the compiled model of the best epoch of a training run (see `train_configuration`)."""
    with hardware(pipeline):
        model = build(_executed(pipeline, execution), values, pipeline.seed + execution)
        if not _has_variables(model):
            give_variables(model, pipeline.data(values).train)
    read_variables(folder / BEST, model)
    return model


def give_variables(model: keras.Model, data: tf.data.Dataset) -> None:
    """Creates the variables of a model that is built by its data, such as a subclass, before its first step.

    A state cannot be restored to a model without variables. Only the shapes and types of the data are read.
    """
    if not _has_variables(model):
        inputs, _, _ = keras.utils.unpack_x_y_sample_weight(data.element_spec)
        # Traced as in the first step, and not run.
        tf.function(lambda inputs: model(inputs, training=False)).get_concrete_function(inputs)


def _has_variables(model):
    return model.built and all(layer.built for layer in flat_layers(model))


def _executed(pipeline, execution):
    other = copy.copy(pipeline)
    other.seed = pipeline.seed + execution
    return other


@contextlib.contextmanager
def hardware(pipeline: Pipeline):
    """A context that applies the pipeline's `precision`, `strategy` and `deterministic` to building and training
    models.
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

    The seed is that of initial weights and dropout. The pipeline's `jit` may override the model's `jit_compile`.
    """
    reset_layer_names()
    keras.utils.set_random_seed(seed)
    model = pipeline.build(hp)
    if pipeline.jit != "auto":
        model.jit_compile = pipeline.jit == "on"
    return model
