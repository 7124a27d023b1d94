"""Training with one set of values on the chosen hardware, and loading the model of the best epoch."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import keras_tuner as kt
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import config

from keras_dl import Pipeline
from keras_dl.errors import UserError
from keras_dl.space import space
from keras_dl.training.configuration import (
    best_model,
    build,
    give_variables,
    hardware,
    strategy_of,
    train_configuration,
)
from keras_dl.training.reuse import CompiledModels
from keras_dl.training.shared_data import SharedData

from ..line import write_pipeline
from .network import Kill, best_bits, bits, data, interrupt


@pytest.fixture
def line(tmp_path):
    return write_pipeline(tmp_path)


class Drawn(Pipeline):
    """A pipeline with random initial weights, dropout and order of the data."""

    epochs = 3

    def __init__(self):
        self.seen = []

    def data(self, hp):
        self.seen.append(self.seed)
        return data(self.seed)

    def build(self, hp):
        layers = [keras.layers.Dense(3, "tanh"), keras.layers.Dropout(0.4), keras.layers.Dense(1)]
        model = keras.Sequential([keras.Input((4,)), *layers])
        model.compile(keras.optimizers.Adam(hp.Float("rate", 1e-4, 1.0, default=0.01)), "mse", jit_compile=False)
        return model


def weight(model):
    return float(model.get_layer("y").kernel[0, 0])


def test_values_and_epochs_are_used(line, tmp_path):
    progress = train_configuration(line, space(line, {"rate": 1.2}), tmp_path / "a", CompiledModels(), SharedData(line))
    assert [row["val_loss"] for row in progress.rows] == pytest.approx([1.4**2, 1.4**4, 1.4**6], rel=1e-4)
    assert (progress.best, progress.best_epoch) == (pytest.approx(1.4**2), 0)
    model = best_model(line, space(line, {"rate": 1.2}), tmp_path / "a")
    assert weight(model) == pytest.approx(1 + 1.4) and model.compiled
    progress = train_configuration(line, space(line, {}), tmp_path / "b", CompiledModels(), SharedData(line), epochs=1)
    assert len(progress.rows) == 1


def test_callbacks_and_direction_of_the_pipeline_are_used(line, tmp_path):
    line.direction = "max"
    line.callbacks = lambda hp: [keras.callbacks.EarlyStopping("val_loss", patience=0, min_delta=hp.get("rate"))]
    progress = train_configuration(line, space(line, {"rate": 1.2}), tmp_path / "a", CompiledModels(), SharedData(line))
    assert progress.stopped and progress.best_epoch == 1


def test_the_nan_patience_of_the_pipeline_is_used(line, tmp_path):
    def build(hp):
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile("sgd", lambda target, output: keras.ops.mean(output) * np.nan, jit_compile=False)
        return model

    line.build, line.nan_patience = build, 1
    with pytest.raises(kt.errors.FailedTrialError, match="loss is nan in epoch 2"):
        train_configuration(line, kt.HyperParameters(), tmp_path, CompiledModels(), SharedData(line))


def test_results_depend_only_on_seed_and_execution_also_in_a_reused_model(tmp_path):
    pipeline, values, models = Drawn(), space(Drawn()), CompiledModels()
    first = train_configuration(pipeline, values, tmp_path / "first", models, SharedData(pipeline))
    pipeline.seen.clear()
    second = train_configuration(pipeline, values, tmp_path / "second", models, SharedData(pipeline), execution=1)
    assert second.rows != first.rows
    assert pipeline.seen == [0] and pipeline.seed == 0  # the data depend on the pipeline's seed only
    with pytest.raises(KeyboardInterrupt):
        train_configuration(
            pipeline, values, tmp_path / "again", models, SharedData(pipeline), watchers=[Kill(1, interrupt)]
        )
    again = train_configuration(pipeline, values, tmp_path / "again", models, SharedData(pipeline))
    assert again.rows == first.rows and models.reused == 3
    assert best_bits(tmp_path / "again") == best_bits(tmp_path / "first")
    for folder, execution in ((tmp_path / "first", 0), (tmp_path / "second", 1)):
        model = best_model(pipeline, values, folder, execution)
        loss = model.evaluate(data().validation, verbose=0)
        assert loss == pytest.approx((first, second)[execution].best, rel=1e-5)


def test_the_best_model_of_layers_built_by_their_data(tmp_path):
    class Unbuilt(Drawn):
        def build(self, hp):
            model = keras.Sequential([keras.layers.Dense(1)])
            model.compile("sgd", "mse", jit_compile=False)
            return model

    pipeline, values = Unbuilt(), kt.HyperParameters()
    progress = train_configuration(pipeline, values, tmp_path, CompiledModels(), SharedData(pipeline), epochs=1)
    model = best_model(pipeline, values, tmp_path)
    assert model.evaluate(data().validation, verbose=0) == pytest.approx(progress.best, rel=1e-5)
    assert len(bits(model.variables)) >= 2


class Subclassed(keras.Model):
    """A model whose layers are built by their data; Keras' `build` creates no variables."""

    def __init__(self):
        super().__init__()
        self.hidden, self.dropped = keras.layers.Dense(3, "tanh"), keras.layers.Dropout(0.4)
        self.last = keras.layers.Dense(1)

    def call(self, inputs, training=None):
        return self.last(self.dropped(self.hidden(inputs), training=training))


def test_a_subclassed_model_is_resumed_and_its_best_epoch_loaded(tmp_path):
    class OfSubclass(Drawn):
        def build(self, hp):
            model = Subclassed()
            model.compile(keras.optimizers.Adam(0.05), "mse", jit_compile=False)
            return model

    pipeline, values, whole = OfSubclass(), kt.HyperParameters(), tmp_path / "whole"

    def train(folder, **options):
        return train_configuration(pipeline, values, folder, CompiledModels(), SharedData(pipeline), **options)

    progress = train(whole)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "again", watchers=[Kill(1, interrupt)])
    started = []
    begins = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: started.append(epoch))
    assert train(tmp_path / "again", watchers=[begins]).rows == progress.rows
    assert started == [1, 2] and best_bits(tmp_path / "again") == best_bits(whole)
    model = best_model(pipeline, values, whole)
    assert len(model.trainable_variables) == 4
    assert model.evaluate(data().validation, verbose=0) == pytest.approx(progress.best, rel=1e-5)


def test_variables_are_created_without_reading_the_data():
    def rows():
        raise AssertionError("the data were read")
        yield

    spec = tf.TensorSpec((None, 4)), tf.TensorSpec((None, 1))
    model = Subclassed()
    give_variables(model, tf.data.Dataset.from_generator(rows, output_signature=spec))
    assert [tuple(variable.shape) for variable in model.trainable_variables] == [(4, 3), (3,), (3, 1), (1,)]
    before = bits(model.variables)
    give_variables(model, tf.data.Dataset.from_generator(rows, output_signature=spec))
    assert bits(model.variables) == before


class Dense(Pipeline):
    def build(self, hp):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3), keras.layers.Dropout(0.5)])
        model.compile("adam", "mse")
        return model


def made(**settings):
    pipeline = Dense()
    vars(pipeline).update(settings)
    with hardware(pipeline):
        return build(pipeline, None, 1)


@pytest.mark.parametrize(
    "precision, computed", [("float32", "float32"), ("mixed_float16", "float16"), ("mixed_bfloat16", "bfloat16")]
)
def test_the_precision_applies_to_the_layers_and_is_reset_afterwards(precision, computed):
    before = keras.config.dtype_policy().name
    layer = made(precision=precision).layers[0]
    assert (layer.compute_dtype, layer.variable_dtype) == (computed, "float32")
    assert keras.config.dtype_policy().name == before
    with pytest.raises(ZeroDivisionError):
        made(precision=precision, build=lambda hp: 1 / 0)
    assert keras.config.dtype_policy().name == before


def test_float16_trains_with_a_scaled_loss():
    assert isinstance(made(precision="mixed_float16").optimizer, keras.optimizers.LossScaleOptimizer)
    assert not isinstance(made(precision="mixed_bfloat16").optimizer, keras.optimizers.LossScaleOptimizer)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"precision": "float8"}, "precision must be one of float32, mixed_float16, mixed_bfloat16. Received"),
        ({"precision": None}, "precision must be one of .* Received: None"),
        ({"strategy": "tpu"}, "strategy must be one of none, mirrored. Received: 'tpu'"),
        ({"jit": True}, "jit must be one of auto, on, off. Received: True"),
    ],
)
def test_an_invalid_option_raises_an_error(settings, message):
    with pytest.raises(UserError, match=message):
        made(**settings)


@pytest.mark.parametrize("jit, compiled", [("on", True), ("off", False)])
def test_jit_sets_the_compilation_of_the_model(jit, compiled):
    assert made(jit=jit).jit_compile is compiled


@pytest.mark.parametrize("compiled", [True, False])
def test_by_default_the_pipeline_decides_on_compilation(compiled):
    def own(hp):
        model = Dense.build(None, hp)
        model.jit_compile = compiled
        return model

    assert made(build=own).jit_compile is compiled


def test_a_model_is_determined_by_its_seed():
    first, again = made(), made()
    with hardware(Dense()):
        other = build(Dense(), None, 2)
    kernels = [model.layers[0].kernel.numpy() for model in (first, again, other)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])
    assert [layer.name for layer in first.layers] == [layer.name for layer in again.layers] == ["dense", "dropout"]
    seeds = [model.layers[1].seed_generator.state.numpy().tolist() for model in (first, again, other)]
    assert seeds[0] == seeds[1] != seeds[2]


def test_deterministic_operations_are_enabled_only_on_request():
    was = config.is_op_determinism_enabled()
    try:
        config.disable_op_determinism()
        made()
        assert not config.is_op_determinism_enabled()
        made(deterministic=True)
        assert config.is_op_determinism_enabled()
    finally:
        (config.enable_op_determinism if was else config.disable_op_determinism)()


def test_mirrored_uses_all_gpus_or_all_cpu_devices():
    strategy = strategy_of(Dense())
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    assert strategy.num_replicas_in_sync == len(devices)
    model = made(strategy="mirrored")
    assert model.distribute_strategy.num_replicas_in_sync == len(devices)
    assert not tf.distribute.has_strategy()


# Logical devices must be configured before TensorFlow is initialized. Without dropout, which differs between devices.
TWO_DEVICES = """
import contextlib, json, sys
from pathlib import Path
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import keras_tuner as kt
sys.path.insert(0, sys.argv[1])
from keras_dl import Pipeline
from keras_dl.training.configuration import best_model, train_configuration
from keras_dl.training.reuse import CompiledModels
from keras_dl.training.shared_data import SharedData
from training.network import Kill, bits, data, interrupt

class Small(Pipeline):
    epochs, replicas = 2, 0

    def data(self, hp):
        return data(self.seed)

    def build(self, hp):
        layers = [keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)]
        model = keras.Sequential([keras.Input((4,)), *layers])
        model.compile(keras.optimizers.Adam(0.02), "mse", metrics=["mae"], jit_compile=False)
        return model

    def callbacks(self, hp):
        Small.replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return [keras.callbacks.ReduceLROnPlateau("val_loss", patience=0, min_delta=1.0, cooldown=1)]

found, values, models, mirrored = {}, kt.HyperParameters(), CompiledModels(), Small()
mirrored.strategy = "mirrored"
shared = {"none": SharedData(Small()), "mirrored": SharedData(mirrored)}
for strategy, killed in (("none", None), ("mirrored", None), ("mirrored", 1)):
    pipeline, folder = shared[strategy].pipeline, Path(sys.argv[2]) / f"{strategy}{killed}"
    train = lambda: train_configuration(pipeline, values, folder, models, shared[strategy], **options)
    options = {"watchers": [Kill(killed, interrupt)]} if killed else {}
    with contextlib.suppress(KeyboardInterrupt):
        train()
    options = {}
    progress = train()
    weights = [variable.numpy().tolist() for variable in best_model(pipeline, values, folder).weights]
    found[folder.name] = {"rows": progress.rows, "weights": weights, "replicas": Small.replicas}
print(json.dumps(found))
"""


def test_two_devices_give_the_results_of_one_and_resume_after_an_interruption(tmp_path):
    """The training runs over two devices share their data, like trials of a search."""
    command = [sys.executable, "-c", TWO_DEVICES, str(Path(__file__).parent.parent), str(tmp_path)]
    output = subprocess.run(command, timeout=200, stdout=subprocess.PIPE, check=True, text=True).stdout
    one, two, killed = json.loads(output.splitlines()[-1]).values()
    assert [found["replicas"] for found in (one, two, killed)] == [1, 2, 2]
    assert killed == two
    for mine, other in zip(two["rows"], one["rows"], strict=True):
        assert mine == pytest.approx(other, abs=1e-5)
    assert len({row["loss"] for row in one["rows"]}) == 2
    for mine, other in zip(two["weights"], one["weights"], strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)
