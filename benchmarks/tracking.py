"""The cost of tracking in a search: journals delivered by a thread, compared with MLflow calls in every epoch.

    python benchmarks/tracking.py            # about a minute on 2 cores

One small compiled model is trained repeatedly, as in a search whose trials share it, with one run per trial in a new
SQLite store: without tracking, with a `Journal`, and with calls of MLflow's client in the training thread
(`create_run`, `log_batch` in each epoch, `set_terminated`). The three are interleaved.

- waiting: time that the training thread spends in tracking calls, ms per epoch.
- processor: processor time of the process, including delivery, beyond the untracked training, ms per epoch.
- search: relative increase of the total time, including all deliveries.
"""

import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import mlflow
import numpy as np
from mlflow.entities import Metric

from keras_dl.tracking.epochs import EpochLogger
from keras_dl.tracking.journal import Delivery, Journal
from keras_dl.tracking.runs import connect, open_run
from keras_dl.tracking.settings import Settings

ROUNDS, TRIALS, EPOCHS, ROWS = 3, 6, 6, 2048


class Timed:
    """Adds up the duration of function calls in seconds."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self, function, *arguments):
        started = time.perf_counter()
        result = function(*arguments)
        self.seconds += time.perf_counter() - started
        return result


class TimedLogger(EpochLogger):
    """An `EpochLogger` whose `on_epoch_end` is timed."""

    def __init__(self, journal, timed):
        super().__init__(journal)
        self.timed = timed

    def on_epoch_end(self, epoch, logs=None):
        self.timed(super().on_epoch_end, epoch, logs)


class EachEpoch(keras.callbacks.Callback):
    """Calls `log_batch` synchronously in each epoch."""

    def __init__(self, client, run_id, timed):
        super().__init__()
        self.client, self.run_id, self.timed = client, run_id, timed

    def on_epoch_end(self, epoch, logs=None):
        now = int(time.time() * 1000)
        metrics = [Metric(name, float(value), now, epoch) for name, value in logs.items()]
        self.timed(self.client.log_batch, self.run_id, metrics)


def untracked(fit, folder, experiment, parent, timed):
    for _ in range(TRIALS):
        fit([])


def journals(fit, folder, experiment, parent, timed):
    delivery = Delivery(Settings(root=folder), experiment).start()
    for number in range(TRIALS):
        place = folder / f"{parent}/trial_{number:02}"
        journal = timed(Journal, delivery, place, f"trial-{number + 1}", {"trial": f"{number:02}"}, parent)
        timed(journal.params, {"learning_rate": 0.1, "trial": number})
        fit([TimedLogger(journal, timed)])
        timed(journal.end, "FINISHED")
    timed(delivery.stop, 60)


def calls(fit, folder, experiment, parent, timed):
    client = mlflow.MlflowClient()
    for number in range(TRIALS):
        run_id = timed(client.create_run, experiment, None, {"mlflow.parentRunId": parent}).info.run_id
        for name in ("learning_rate", "trial"):
            timed(client.log_param, run_id, name, number)
        fit([EachEpoch(client, run_id, timed)])
        timed(client.set_terminated, run_id)


def main():
    x = np.random.default_rng(0).normal(size=(ROWS, 16, 4)).astype("float32")
    model = keras.Sequential([keras.Input((16, 4)), keras.layers.LSTM(16), keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"], jit_compile=False)

    def fit(callbacks):
        model.fit(x, x[:, 0, :1], 128, EPOCHS, 0, callbacks, validation_data=(x[:512], x[:512, 0, :1]))

    fit([])
    waiting, processor, wall = ({each: [] for each in (untracked, journals, calls)} for _ in range(3))
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(system_metrics={"enabled": False}, root=Path(folder))
        connect(settings, "benchmark")
        for number in range(ROUNDS + 1):  # the first one warms up
            for each in waiting:
                with open_run(settings, each.__name__) as run:
                    timed, started, cpu = Timed(), time.perf_counter(), time.process_time()
                    each(fit, Path(folder), run.info.experiment_id, run.info.run_id, timed)
                if number:
                    wall[each].append(time.perf_counter() - started)
                    processor[each].append(time.process_time() - cpu)
                    waiting[each].append(timed.seconds)
    epochs = TRIALS * EPOCHS
    plain, plain_cpu = statistics.median(wall[untracked]), statistics.median(processor[untracked])
    print(f"{TRIALS} trials x {EPOCHS} epochs of {1000 * plain / epochs:.0f} ms, {ROUNDS} rounds, SQLite, ", end="")
    print(f"{os.cpu_count()} cores, {platform.machine()}")
    print(f"{'':24} {'waiting':>14} {'processor':>14} {'search':>9}")
    for each in (journals, calls):
        waited = 1000 * statistics.median(waiting[each]) / epochs
        spent = 1000 * (statistics.median(processor[each]) - plain_cpu) / epochs
        longer = statistics.median(a / b - 1 for a, b in zip(wall[each], wall[untracked], strict=True))
        print(f"{each.__name__:24} {waited:8.2f} ms/ep {spent:8.2f} ms/ep {100 * longer:+7.1f} %")


if __name__ == "__main__":
    main()
