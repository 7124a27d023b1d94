"""Measures the speedup of a search on several worker processes, and the effect of killing them.

    python benchmarks/distributed_search.py            # about 6 minutes on 2 cores

Trials spend most of their time waiting, like those that wait for input or an accelerator. The first part runs the same
search with one worker and with four, as whole commands including imports. The second part uses three workers, kills one
of them (-9) every 5 seconds and the chief once, and repeats the command. It reports lost and repeated trials, and any
difference (to the last bit) between the leaderboard and that of one worker.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mlflow

PIPELINE = '''"""Trials of three seconds, most of them spent waiting."""

import time

import keras
import numpy as np
import tensorflow as tf

from keras_dl import Pipeline
from keras_dl.data import Splits, batches


def rows(count, seed):
    x = np.random.default_rng(seed).normal(size=(count, 4)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x, (x.sum(1) > 0).astype("float32"))).cache()


class Wait(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        time.sleep(1)


class Waiting(Pipeline):
    objective = "val_loss"
    epochs = 3
    trials = 24

    def data(self, hp):
        return batches(Splits(rows(256, 1), rows(64, 2), rows(64, 3)), hp.Choice("batch_size", [16, 32]))

    def build(self, hp):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, "sigmoid")])
        rate = hp.Float("learning_rate", 1e-3, 1e-1, sampling="log")
        model.compile(keras.optimizers.Adam(rate), "binary_crossentropy", jit_compile=False)
        return model

    def callbacks(self, hp):
        return [Wait()]
'''


def start(root, *options):
    command = [sys.executable, "-m", "keras_dl.cli", "tune", "waiting.py", *options]
    output = open(root / "output.txt", "a")
    return subprocess.Popen(command, cwd=root, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)


def wait(process, root):
    if process.wait(900):
        raise SystemExit((root / "output.txt").read_text())


def outcome(root):
    """Returns the leaderboard of the last search and the faults of its runs."""
    client = mlflow.MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("waiting").experiment_id
    run = client.search_runs([experiment], "tags.kind = 'search' and attributes.status = 'FINISHED'", max_results=1)[0]
    table = json.loads(Path(run.info.artifact_uri.removeprefix("file://"), "trials.json").read_text())
    rows = sorted(
        (dict(zip(table["columns"], row, strict=True)) for row in table["data"]), key=lambda row: row["trial"]
    )
    children = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{run.info.run_id}'")
    names = [child.info.run_name for child in children]
    wrong = [f"{child.info.run_name} {child.info.status}" for child in children if child.info.status != "FINISHED"]
    wrong += [f"{name} twice" for name in set(names) if names.count(name) > 1]
    return rows, wrong


def workers_of(chief):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        children = Path(f"/proc/{chief.pid}/task/{chief.pid}/children").read_text().split()
        return [int(pid) for pid in children]
    return []


def main():
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "waiting.py").write_text(PIPELINE)
        (root / "mlflow.yaml").write_text("system_metrics:\n  enabled: false\n")
        wait(start(root, "--trials", "1"), root)  # creates the store
        seconds, boards = {}, {}
        for count in (1, 4):
            began = time.perf_counter()
            wait(start(root, "--workers", str(count)), root)
            seconds[count] = time.perf_counter() - began
            boards[count], wrong = outcome(root)
            print(f"{count} workers: {seconds[count]:.0f} s, {len(boards[count])} trials, faults: {wrong or 'none'}")
        same = boards[1] == boards[4]
        print(
            f"4 workers against 1: {seconds[1] / seconds[4]:.2f}x, results {'the same' if same else 'differ'}",
            flush=True,
        )

        generator, kills, chiefs, began = random.Random(0), 0, 0, time.monotonic()
        process = start(root, "--workers", "3")
        for turn in itertools.count(1):
            with contextlib.suppress(subprocess.TimeoutExpired):
                if process.wait(5) == 0:
                    break
                raise SystemExit((root / "output.txt").read_text())
            if turn == 9:
                os.kill(process.pid, signal.SIGKILL)  # its workers end with it
                process.wait()
                time.sleep(2)
                process, chiefs = start(root, "--workers", "3"), chiefs + 1
            elif workers := workers_of(process):
                os.kill(generator.choice(workers), signal.SIGKILL)
                kills += 1
        rows, wrong = outcome(root)
        print(
            f"{kills} workers and {chiefs} chief killed in {time.monotonic() - began:.0f} s: {len(rows)} of 24 trials, "
            f"{'identical' if rows == boards[1] else 'DIFFERENT'} results, faults: {wrong or 'none'}"
        )


if __name__ == "__main__":
    main()
