"""What is found before the first trial."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl import Pipeline
from keras_dl.data import Splits, batches
from keras_dl.errors import UserError
from keras_dl.training.job import check_space


class Rows(Pipeline):
    """One dense layer; `test` returns the test split."""

    name = "rows"

    def rows(self, seed=0, count=64):
        rows = np.random.default_rng(seed).normal(size=(count, 2)).astype("float32")
        return tf.data.Dataset.from_tensor_slices((rows, rows.sum(1)))

    def splits(self):
        return Splits(self.rows(), self.rows(), self.rows())

    def data(self, hp):
        return batches(self.splits(), 8, evaluation_batch_size=8)

    def layer(self, inputs):
        return inputs

    def build(self, hp):
        inputs = keras.Input((2,), name="x")
        model = keras.Model(inputs, keras.layers.Dense(1, name="y")(self.layer(inputs)))
        model.compile("sgd", "mse", jit_compile=False)
        return model


class Mean(keras.layers.Layer):
    """A layer with a variable that no saved model contains."""

    def build(self, shape):
        self.mean = tf.Variable(lambda: tf.zeros(shape[-1]))

    def call(self, inputs):
        return inputs - self.mean


class Count(keras.callbacks.Callback):
    """A callback whose state cannot be saved."""

    def __init__(self):
        super().__init__()
        self.seen = {1}


def test_a_pipeline_in_order_prints_nothing(capsys):
    check_space(Rows(), {})
    assert capsys.readouterr() == ("", "")


def test_state_that_is_lost_is_refused_or_printed(capsys):
    pipeline = Rows()
    pipeline.callbacks = lambda hp: [Count()]
    check_space(pipeline, {})
    assert capsys.readouterr().err == "note   not kept if this run is interrupted and resumed: Count.seen\n"
    pipeline.layer = Mean()
    with pytest.raises(UserError, match="layer mean has a tf.Variable, which no saved model contains"):
        check_space(pipeline, {})


def test_another_test_split_in_each_call_is_refused_but_not_another_order():
    class Random(Rows):
        calls = 0

        def splits(self):
            type(self).calls += 1
            return Splits(self.rows(), self.rows(), self.test(type(self).calls))

    class Shuffled(Random):
        def test(self, call):
            return self.rows().shuffle(64, seed=call)

    class Drawn(Random):
        def test(self, call):
            return self.rows(seed=call)

    check_space(Shuffled(), {})
    with pytest.raises(UserError, match=r"data\(hp\) of rows returns a different test split in each call"):
        check_space(Drawn(), {})


@pytest.mark.parametrize("name", ["train", "validation", "test"])
@pytest.mark.parametrize("batched", [True, False], ids=["batches", "own batches"])
def test_an_endless_split_is_refused(name, batched):
    class Endless(Rows):
        def splits(self):
            rows = self.rows()
            return Splits(**{"train": rows, "validation": rows, "test": rows} | {name: rows.repeat()})

        def data(self, hp):
            return super().data(hp) if batched else Splits(*(split.batch(8) for split in self.splits()))

    with pytest.raises(UserError, match=f"the {name} split is endless, so no epoch would end"):
        check_space(Endless(), {})


def test_a_missing_objective_is_found_before_training():
    pipeline = Rows()
    pipeline.objective = "val_accuracy,val_loss"
    with pytest.raises(UserError, match="the objective 'val_accuracy' is not among the metrics: loss, val_loss"):
        check_space(pipeline, {})
    pipeline.callbacks = lambda hp: [keras.callbacks.Callback()]  # may add it
    check_space(pipeline, {})


def test_an_objective_of_a_train_step_is_not_missing():
    class Own(keras.Model):
        def train_step(self, data):
            return {"gain": 1.0, **super().train_step(data)}

    pipeline = Rows()
    pipeline.objective = "gain:max"
    inputs = keras.Input((2,), name="x")
    model = Own(inputs, keras.layers.Dense(1, name="y")(inputs))
    model.compile("sgd", "mse", jit_compile=False)
    pipeline.build = lambda hp: model
    pipeline.custom_objects = {"Own": Own}
    check_space(pipeline, {})


@pytest.mark.parametrize(
    ("method", "value", "message"),
    [
        ("callbacks", None, r"callbacks\(hp\) of rows must return a list of Keras callbacks. Received: None"),
        ("callbacks", Count(), "must return a list of Keras callbacks. Received: .*Count"),
        ("callbacks", ["Count"], "must return a list of Keras callbacks. Received: .*Count"),
        ("request", None, r"request\(example\) of rows must return a dictionary. Received: None"),
        ("signatures", None, r"signatures\(model\) of rows must return a dictionary. Received: None"),
    ],
)
def test_what_a_method_must_return(method, value, message):
    pipeline = Rows()
    setattr(pipeline, method, lambda argument: value)
    with pytest.raises(UserError, match=message):
        check_space(pipeline, {})


def test_data_without_a_batch_axis_are_rejected():
    pipeline = Rows()
    pipeline.data = lambda hp: pipeline.splits()  # a scalar target
    with pytest.raises(UserError, match=r"rows must return batches, with one batch size. Received: \(2,\), \(\)"):
        check_space(pipeline, {})
    pipeline.splits = lambda: Splits(*[pipeline.rows().map(lambda x, y: (x, y[None]))] * 3)
    with pytest.raises(UserError, match=r"with one batch size. Received: \(2,\), \(1,\)"):
        check_space(pipeline, {})
