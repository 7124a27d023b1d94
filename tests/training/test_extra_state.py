"""State of a model that no saved model contains."""

import keras
import pytest
import tensorflow as tf

from keras_dl.errors import UserError
from keras_dl.training.extra_state import check_saved_state, extra_state

COUNTER = tf.Variable(1.0)


class Plain:
    """An object that Keras does not search for weights."""

    def __init__(self):
        self.dense, self.scale = keras.layers.Dense(4), keras.Variable(1.0)


class Step(keras.layers.Layer):
    """A layer with any attribute, which calls any function."""

    def __init__(self, kept=None, function=lambda kept, inputs: inputs):
        super().__init__(name="step")
        self.kept, self.function = kept, function

    def call(self, inputs):
        return self.function(self.kept, inputs)


class Late(Step):
    """A layer that creates its variable in `build`."""

    def build(self, shape):
        self.mean = tf.Variable(lambda: tf.zeros(shape[-1]))


class Global(Step):
    """A layer that uses a variable of its module."""

    def call(self, inputs):
        return inputs * COUNTER


class Shared(Step):
    """A layer with a variable of its class."""

    count = tf.Variable(0)


class Saved(Late):
    """A layer that saves its variable itself."""

    def save_own_variables(self, store):
        store["mean"] = self.mean.numpy()

    def load_own_variables(self, store):
        self.mean.assign(store["mean"])


class Count(keras.metrics.Metric):
    """A metric with a variable of Keras and one of TensorFlow."""

    def __init__(self, kept=None):
        super().__init__(name="count")
        self.total, self.kept = self.add_variable((), "zeros"), kept

    def update_state(self, targets, outputs, sample_weight=None):
        self.total.assign_add(1.0)

    def result(self):
        return self.total


def table():
    return tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)


def network(layer=None, **options):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(1)(layer(inputs) if layer else inputs), name="net")
    model.compile(**{"optimizer": "sgd", "loss": "mse"} | options)
    return model


@pytest.mark.parametrize(
    "layer, message",
    [
        (Late, "layer step has a tf.Variable, which no saved model contains: use add_weight"),
        (lambda: Step({"means": [tf.Variable(1.0)]}), "layer step has a tf.Variable"),
        (lambda: Step(Late(), lambda kept, x: kept(x)), "layer step has a tf.Variable"),
        (Global, "layer step has a tf.Variable"),
        (Shared, "layer step has a tf.Variable"),
        (lambda: keras.layers.Lambda(lambda inputs: inputs * COUNTER, name="by"), "layer by has a tf.Variable"),
        (lambda: Step(table()), "layer step has a MutableHashTable, which no saved model contains"),
        (lambda: Step(Plain(), lambda kept, x: kept.dense(x)), "layer step has a variable .* not among its weights"),
    ],
)  # fmt: skip
def test_state_of_a_layer_that_no_saved_model_holds_raises_an_error(layer, message):
    model = network(layer())
    with pytest.raises(UserError, match=message):
        check_saved_state(model)


def test_state_of_a_metric_or_of_the_model_raises_an_error():
    with pytest.raises(UserError, match="metric count has a tf.Variable, which no saved model contains"):
        check_saved_state(network(metrics=[Count(tf.Variable(1.0))]))
    model = network()
    model.steps = tf.Variable(0)
    with pytest.raises(UserError, match="model net has a tf.Variable"):
        check_saved_state(model)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.BatchNormalization,
        lambda: keras.layers.Dropout(0.5),
        lambda: keras.layers.Bidirectional(keras.layers.LSTM(2), name="both"),
        Saved,
        lambda: Step([keras.layers.Dense(4)], lambda kept, inputs: kept[0](inputs)),
        lambda: Step(keras.random.SeedGenerator(1)),
        lambda: Step(tf.random.Generator.from_seed(1)),
        lambda: Step(tf.constant(1.0)),
    ],
)
def test_state_that_is_saved_or_only_random_is_accepted(layer):
    def reshaped(inputs):
        made = layer()
        return made(inputs[:, None] if isinstance(made, keras.layers.Bidirectional) else inputs)

    model = network(reshaped, metrics=["mae", Count()])
    assert check_saved_state(model) == []


def test_state_of_a_loss_and_an_optimizer_is_found_but_not_refused():
    count, words = tf.Variable(0.0), table()

    def loss(targets, outputs):
        words.size()
        return count * keras.ops.mean(targets - outputs)

    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())
    model = network(loss=loss, optimizer=optimizer)
    assert check_saved_state(model) == [words]
    extra = extra_state(model)
    assert len(extra.variables) == 1 and extra.variables[0] is count
    assert extra.optimizers == [optimizer, optimizer.inner_optimizer]


def test_a_fixed_network_of_a_loss_is_not_part_of_the_state():
    fixed = network()
    model = network(loss=lambda targets, outputs: keras.ops.mean(fixed(targets) - fixed(outputs)))
    assert extra_state(model).variables == []
