"""Training with one set of values, and loading the model of the best epoch."""

import keras
import keras_tuner as kt
import numpy as np
import pytest
import tensorflow as tf

from keras_dl import Pipeline
from keras_dl.space import space
from keras_dl.training.configuration import best_model, give_variables, train_configuration
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
