"""Metrics of each epoch, read back from the store."""

import keras
import mlflow
import numpy as np

from keras_dl.tracking.epochs import EpochLogger
from keras_dl.tracking.runs import connect, open_run


def history(run, metric):
    points = mlflow.MlflowClient().get_metric_history(run.info.run_id, metric)
    return {point.step: point.value for point in points}


def test_every_metric_of_every_epoch_is_a_point(project):
    connect(project, "digits")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"], jit_compile=False)
    x = np.ones((8, 2), "float32")
    with open_run(project, "one") as run:
        fitted = model.fit(
            x, x[:, :1], validation_data=(x, x[:, :1]), epochs=3, verbose=0, callbacks=[EpochLogger(run.info.run_id)]
        ).history
    assert set(fitted) == {"loss", "mae", "val_loss", "val_mae"}
    for metric, values in fitted.items():
        assert history(run, metric) == dict(enumerate(values))
    seconds = history(run, "epoch_seconds")
    assert list(seconds) == [0, 1, 2] and all(0 < value < 60 for value in seconds.values())
    assert mlflow.get_run(run.info.run_id).data.metrics.keys() == {*fitted, "epoch_seconds"}


def test_a_training_that_goes_on_keeps_its_steps(project):
    connect(project, "digits")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    x = np.ones((4, 2), "float32")
    with open_run(project, "one") as run:
        logger = EpochLogger(run.info.run_id)
        model.fit(x, x[:, :1], initial_epoch=3, epochs=5, verbose=0, callbacks=[logger])
    assert list(history(run, "loss")) == [3, 4]


def test_it_logs_to_its_own_run_and_not_to_the_active_one(project):
    connect(project, "digits")
    with open_run(project, "parent") as parent:
        with open_run(project, "child") as child:
            logger = EpochLogger(child.info.run_id)
        logger.on_epoch_begin(0)
        logger.on_epoch_end(0, {"loss": np.float32(0.5)})
    assert history(child, "loss") == {0: 0.5}
    assert history(parent, "loss") == {}
