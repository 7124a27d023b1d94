"""The metrics of every epoch, as points of a run."""

import time

import keras
import mlflow
from mlflow.entities import Metric


class EpochLogger(keras.callbacks.Callback):
    """Logs the metrics of each epoch to a run, one call an epoch, with the seconds it took.

    Args:
        run_id: str.
    """

    def __init__(self, run_id):
        super().__init__()
        self.run_id = run_id
        self.client = mlflow.MlflowClient()

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        values = {**(logs or {}), "epoch_seconds": time.perf_counter() - self.began}
        now = int(time.time() * 1000)
        self.client.log_batch(self.run_id, [Metric(name, float(value), now, epoch) for name, value in values.items()])
