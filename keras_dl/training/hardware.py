"""How a training uses the machine: precision, devices, compilation, determinism; `--precision` and the like."""

import contextlib
import functools

import keras
import tensorflow as tf
from keras.src.utils.naming import reset_uids

from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
STRATEGIES = ("none", "mirrored")
JIT = ("auto", "on", "off")


@contextlib.contextmanager
def hardware(pipeline: Pipeline):
    """What the pipeline's `precision`, `strategy`, `jit` and `deterministic` say, while a model is built and trained.

    Args:
        pipeline: `Pipeline` with these attributes.

    Raises:
        UserError: for a value that does not exist, or a precision that this processor has no use for.
    """
    for name, known in (("precision", PRECISIONS), ("strategy", STRATEGIES), ("jit", JIT)):
        if getattr(pipeline, name) not in known:
            raise UserError(f"{name} must be one of {', '.join(known)}. Received: {getattr(pipeline, name)!r}")
    if pipeline.deterministic:
        tf.config.experimental.enable_op_determinism()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(pipeline.precision)
    try:
        with strategy_of(pipeline).scope() if pipeline.strategy != "none" else contextlib.nullcontext():
            yield
    finally:
        keras.config.set_dtype_policy(before)


def strategy_of(pipeline: Pipeline):
    """TensorFlow's strategy of that name: `mirrored` over all GPUs, or over all CPU devices where there is none.

    The same one each time: variables of one strategy, such as `Splits.epoch`, cannot be used under another.
    """
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return _mirrored(tuple(device.name for device in devices))


@functools.cache
def _mirrored(devices):
    return tf.distribute.MirroredStrategy(list(devices))


def build(pipeline: Pipeline, hp, seed: int) -> keras.Model:
    """The pipeline's model from a seed, compiled as its `jit` says; to be called within `hardware`.

    Args:
        pipeline: `Pipeline`.
        hp: its hyperparameters.
        seed: int, of initial weights and dropout.
    """
    reset_uids()  # layers are named from the beginning, as in any other process
    keras.utils.set_random_seed(seed)
    model = pipeline.build(hp)
    if pipeline.jit != "auto":
        model.jit_compile = pipeline.jit == "on"
    return model
