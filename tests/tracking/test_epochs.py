"""The metrics, speed and input waiting time of each epoch, read from the store."""

import time

import keras
import mlflow
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.tracking.epochs import EpochLogger
from keras_dl.tracking.journal import Delivery, Journal
from keras_dl.tracking.runs import connect, open_run


@pytest.fixture
def logger(project):
    connect(project, "digits")
    with open_run(project, "one") as run:
        delivery = Delivery(project, run.info.experiment_id).start()
        yield EpochLogger(Journal.of_run(delivery, project.root / "searches/digits.training", run.info.run_id))
        delivery.stop(5)


def history(logger, metric):
    assert logger.journal._delivery.flush(60)
    points = mlflow.MlflowClient().get_metric_history(logger.journal.run_id(0), metric)
    return {point.step: point.value for point in points}


def small_model(**options):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False, **options)
    return model


def rows(count, seconds=0.0):
    """Returns a dataset of `count` batches of 4, each of which takes `seconds` to produce."""

    def wait(x):
        time.sleep(seconds)
        return x

    def make(x):
        return tf.ensure_shape(tf.numpy_function(wait, [x], tf.float32), (None, 2))

    data = tf.data.Dataset.from_tensor_slices(np.ones((count * 4, 2), "float32")).batch(4)
    return (data.map(make) if seconds else data).map(lambda x: (x, x[:, :1])).prefetch(1)


def test_every_metric_is_logged_in_every_epoch(logger):
    model = small_model(metrics=["mae"])
    x = np.ones((8, 2), "float32")
    fitted = model.fit(
        x, x[:, :1], validation_data=(x, x[:, :1]), epochs=3, verbose=0, callbacks=[logger]
    ).history  # fmt: skip
    assert set(fitted) == {"loss", "mae", "val_loss", "val_mae"}
    for metric, values in fitted.items():
        assert history(logger, metric) == dict(enumerate(values))
    seconds = history(logger, "epoch_seconds")
    assert list(seconds) == [0, 1, 2] and all(0 < value < 60 for value in seconds.values())
    names = {*fitted, "epoch_seconds", "steps_per_second", "examples_per_second"}
    assert mlflow.get_run(logger.journal.run_id(0)).data.metrics.keys() == names


def test_a_resumed_training_run_continues_its_steps(logger):
    x = np.ones((4, 2), "float32")
    small_model().fit(x, x[:, :1], initial_epoch=3, epochs=5, verbose=0, callbacks=[logger])
    assert list(history(logger, "loss")) == [3, 4]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("validate", [True, False])
def test_speed_counts_only_the_training_part(logger, known, validate):
    data = tf.data.Dataset.from_tensor_slices(np.ones((50, 2), "float32")).map(lambda x: (x, x[:1])).batch(8)
    data = data if known else data.filter(lambda x, y: True)
    slow = rows(10, 0.05) if validate else None  # must not affect the speed
    small_model().fit(logger.watch(data), validation_data=slow, epochs=3, verbose=0, callbacks=[logger])
    steps, examples = history(logger, "steps_per_second"), history(logger, "examples_per_second")
    assert list(steps) == [0, 1, 2]
    for epoch in steps:
        assert examples[epoch] / steps[epoch] == pytest.approx(50 / 7)
    if validate:  # 10 x 0.05 s: load can only increase it
        assert history(logger, "epoch_seconds")[2] - 7 / steps[2] > 0.49


def test_a_slow_input_gives_a_high_input_fraction(logger):
    model = small_model()
    model.fit(logger.watch(rows(10, 0.1)), epochs=2, verbose=0, shuffle=False, callbacks=[logger])
    waiting = history(logger, "input_fraction")
    assert list(waiting) == [0, 1] and all(0.5 < value <= 1 for value in waiting.values())


def test_a_fast_input_gives_a_low_input_fraction(logger):
    class Slow(keras.layers.Layer):
        def call(self, x):
            return tf.ensure_shape(tf.numpy_function(lambda x: time.sleep(0.1) or x, [x], tf.float32), x.shape)

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1), Slow()])
    model.compile("sgd", "mse", jit_compile=False)
    model.layers[0].trainable = False  # a NumPy function has no gradient
    model.fit(logger.watch(rows(10)), epochs=2, verbose=0, shuffle=False, callbacks=[logger])
    waiting = history(logger, "input_fraction")
    assert list(waiting) == [0, 1] and all(0 <= value < 0.5 for value in waiting.values())


def test_watch_does_not_change_training(logger):
    def train(watch):
        keras.utils.set_random_seed(3)
        data = tf.data.Dataset.from_tensor_slices(np.random.default_rng(0).normal(size=(64, 2)).astype("float32"))
        data = data.shuffle(64, seed=5).map(lambda x: (x, x[:1])).batch(8).prefetch(2)
        model = small_model()
        callbacks = [logger] if watch else []
        found = model.fit(logger.watch(data) if watch else data, epochs=3, verbose=0, callbacks=callbacks).history
        return found["loss"], model.get_weights()[0].tolist()

    assert train(True) == train(False)


def test_the_cost_per_batch_is_small(logger):
    logger.on_train_begin()
    logger.on_epoch_begin(0)
    started = time.thread_time()  # independent of the load of the machine
    for batch in range(10_000):
        logger.on_train_batch_begin(batch)
        logger.on_train_batch_end(batch)
    assert time.thread_time() - started < 10_000 * 20e-6
