"""Saving the state of a training run to a file and restoring it."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.training.state import (
    model_variables,
    not_saved,
    read_state,
    read_variables,
    restore_callbacks,
    restore_model,
    write_state,
    write_variables,
)

from .network import bits, network, plain

ROWS = np.random.default_rng(1).normal(size=(32, 4)).astype("float32")
TARGETS = (ROWS.sum(1, keepdims=True) > 0).astype("float32")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "state.npz"


@pytest.fixture(scope="module")
def model():
    """A network whose variables the test does not change."""
    return plain()


class Anything(keras.callbacks.Callback):
    """A callback with arbitrary attributes."""

    def __init__(self, **attributes):
        super().__init__()
        vars(self).update(attributes)


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 7, 0.1, float("inf"), "word", [], [1, 2.5, "x"], {"a": [1, None]}, {}),
        *(np.float32(0.1), np.int64(3), np.bool_(True)),
        *(np.arange(6.0).reshape(2, 3), np.zeros((0, 2)), np.array(2.5)),
        *([np.ones(3), np.zeros((2, 2), "int8")], (np.ones(3),)),
    ],
    ids=repr,
)
def test_attributes_of_callbacks_are_restored(value, file, model):
    write_state(file, model, [Anything(value=value, other=1)], {})
    again = Anything(value="initial", other=2)
    restore_callbacks([again], *read_state(file)[1:2], read_state(file)[2]["callbacks"])
    assert again.other == 1
    if isinstance(value, list | tuple) and value and isinstance(value[0], np.ndarray):
        assert len(again.value) == len(value)
        for mine, other in zip(again.value, value, strict=True):
            np.testing.assert_array_equal(mine, other, strict=True)
    elif isinstance(value, np.generic | np.ndarray):
        assert np.asarray(again.value).dtype == value.dtype
        np.testing.assert_array_equal(again.value, value)
    else:
        assert again.value == value and type(again.value) is type(value)


@pytest.mark.parametrize(
    "value",
    [print, object(), {1, 2}, {1: 2}, [object()], ROWS.tolist],
    ids=["function", "object", "set", "numbers as keys", "objects", "method"],
)
def test_attributes_that_cannot_be_saved_are_left_unchanged(value, file, model):
    write_state(file, model, [Anything(value=value)], {})
    again = Anything(value="initial")
    _, arrays, content = read_state(file)
    restore_callbacks([again], arrays, content["callbacks"])
    assert again.value == "initial"


def test_a_list_of_many_arrays_keeps_its_order(file, model):
    weights = [np.full(2, number) for number in range(12)]
    write_state(file, model, [Anything(), Anything(weights=weights)], {})
    again = [Anything(weights=None), Anything(weights=None)]
    _, arrays, content = read_state(file)
    restore_callbacks(again, arrays, content["callbacks"])
    assert again[0].weights is None
    assert [int(array[0]) for array in again[1].weights] == list(range(12))


@pytest.mark.parametrize("make", [lambda: tf.Variable(1.0), lambda: keras.Variable(1.0)], ids=["tf", "keras"])
def test_variables_of_callbacks_are_restored_in_place(make, file, model):
    count, again = make(), make()
    count.assign(7.0)
    write_state(file, model, [Anything(count=count)], {})
    callback = Anything(count=again)
    _, arrays, content = read_state(file)
    restore_callbacks([callback], arrays, content["callbacks"])
    assert callback.count is again and float(again) == 7.0


def test_attributes_that_may_change_and_are_not_saved_are_named():
    kept = {"words": ["a"], "best": np.ones(2), "weights": [np.ones(2)], "count": tf.Variable(1), "function": print}
    lost = {"seen": {1}, "rows": [object()], "random": np.random.default_rng(0)}
    callbacks = [
        Anything(**kept),
        Anything(**lost),
        keras.callbacks.EarlyStopping(),
        keras.callbacks.ReduceLROnPlateau(),
    ]
    assert not_saved(callbacks) == ["Anything.seen", "Anything.rows", "Anything.random"]


def test_another_number_of_callbacks_raises_an_error(file, model):
    write_state(file, model, [Anything()], {})
    _, arrays, content = read_state(file)
    with pytest.raises(ValueError, match="expected 1 callbacks. Received: 2"):
        restore_callbacks([Anything(), Anything()], arrays, content["callbacks"])


def trained(build):
    model = build()
    model.fit(ROWS, TARGETS, epochs=1, verbose=0)
    return model


def scaled():
    """A network with layers of several dtypes, and a loss scale with counters."""
    keras.utils.set_random_seed(5)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, dtype="mixed_float16"),
            keras.layers.Dense(2, dtype="bfloat16"),
            keras.layers.Dense(1, dtype="float16"),
        ]
    )
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01), dynamic_growth_steps=1)
    model.compile(optimizer, "mse", jit_compile=False)
    return model


class Adversary(keras.Model):
    """Two networks with an optimizer each, as in a generative adversarial network."""

    def __init__(self):
        super().__init__()
        self.first, self.second = keras.layers.Dense(3), keras.layers.Dense(1)

    def compile(self, other):
        super().compile(keras.optimizers.Adam(0.01), "mse", jit_compile=False)
        self.others = {"second": other}

    def call(self, inputs):
        return self.second(self.first(inputs))

    def train_step(self, data):
        inputs, targets = data
        with tf.GradientTape() as tape:
            noise = keras.random.normal((4,))  # from the generator that layers without a seed share
            loss = self.compute_loss(inputs, targets, self(inputs + noise, training=True))
        variables = self.trainable_variables
        gradients = tape.gradient(loss, variables)
        self.optimizer.apply(gradients[:2], variables[:2])
        self.others["second"].apply(gradients[2:], variables[2:])
        return {"loss": loss}


def adversary():
    """A model with an optimizer in a container, each optimizer for some of the variables."""
    keras.utils.set_random_seed(5)
    model = Adversary()
    model.compile(keras.optimizers.Adam(0.02))
    model(ROWS)
    return model


def counted():
    """A network whose loss has a counter and draws random numbers, and whose learning rate has a counter."""
    keras.utils.set_random_seed(5)
    count, seeds, generator = tf.Variable(0.0), keras.random.SeedGenerator(1), tf.random.Generator.from_seed(2)

    class Rate(keras.optimizers.schedules.LearningRateSchedule):
        def __init__(self):
            self.calls = tf.Variable(0.0)

        def __call__(self, step):
            return 0.01 / self.calls.assign_add(1.0)

    def loss(targets, outputs):
        noise = keras.random.normal((1,), seed=seeds) + generator.normal((1,))
        return count.assign_add(1.0) * keras.ops.mean(keras.ops.square(targets - outputs + noise), -1)

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(Rate()), loss, jit_compile=False)
    return model


@pytest.mark.parametrize("build", [network, scaled, adversary, counted])
def test_a_restored_model_trains_identically(build, file):
    model = trained(build)
    write_state(file, model, [], {"rows": [1]})
    other = build()
    assert bits(other.variables) != bits(model.variables)
    variables, arrays, content = read_state(file)
    restore_model(other, variables, content)
    assert (arrays, content["record"]) == ({}, {"rows": [1]})
    assert bits(model_variables(other)) == bits(model_variables(model))
    assert bits(other.optimizer.variables) == bits(model.optimizer.variables)
    for one in (model, other):
        one.fit(ROWS, TARGETS, epochs=1, verbose=0, shuffle=False)
    assert bits(other.variables) == bits(model.variables)


def test_the_scaled_network_has_variables_of_three_dtypes():
    kinds = {np.dtype(v.dtype).name if v.dtype != "bfloat16" else v.dtype for v in scaled().variables}
    assert kinds >= {"float32", "float16", "bfloat16"}


def test_the_best_variables_exclude_metrics_and_optimizer(file):
    model, other = network(), network()
    for variable in model.variables:
        variable.assign(variable + keras.ops.ones_like(variable))
    write_variables(file, model)
    iterations = int(other.optimizer.iterations)
    read_variables(file, other)
    assert bits(model_variables(other)) == bits(model_variables(model))
    assert int(other.optimizer.iterations) == iterations
    metrics = {id(variable) for variable in model.metrics_variables}
    assert metrics and not metrics & {id(variable) for variable in model_variables(model)}
    names = [variable.path for variable in model_variables(model)]
    assert any("seed_generator_state" in name for name in names)  # of dropout
    assert any("moving_mean" in name for name in names)  # of batch normalization


def test_variables_of_another_structure_raise_an_error_and_change_nothing(file, model):
    write_variables(file, plain(units=5))
    before = bits(model.variables)
    with pytest.raises(ValueError, match="expected variables of shapes"):
        read_variables(file, model)
    write_state(file, plain(units=5), [], {})
    with pytest.raises(ValueError, match="expected variables of shapes"):
        restore_model(model, *read_state(file)[::2])
    assert bits(model.variables) == before


@pytest.mark.parametrize("content", [b"", b"words", b"PK\x03\x04"], ids=repr)
def test_a_missing_or_damaged_file_is_detected(content, file, model):
    assert read_state(file) is None
    with pytest.raises(FileNotFoundError):
        read_variables(file, model)
    file.write_bytes(content)
    assert read_state(file) is None
    with pytest.raises(ValueError, match="state.npz is damaged"):
        read_variables(file, model)


def test_a_truncated_file_is_detected(file, model):
    write_state(file, model, [], {"rows": []})
    whole = file.read_bytes()
    for length in range(0, len(whole), 97):
        file.write_bytes(whole[:length])
        assert read_state(file) is None
    file.write_bytes(whole)
    assert read_state(file) is not None


def test_pickled_objects_are_not_read(file):
    np.savez(file, np.array([print], object))
    assert read_state(file) is None


def test_a_kill_while_writing_keeps_the_old_state(file, model, monkeypatch):
    write_state(file, model, [], {"epoch": 1})

    def killed(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        write_state(file, model, [], {"epoch": 2})
    assert read_state(file)[2]["record"] == {"epoch": 1}
