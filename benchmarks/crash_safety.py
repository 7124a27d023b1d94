"""Crash safety of searches: `kill -9` at random times during a search of 12 trials, with each of the four tuners.

    python benchmarks/crash_safety.py                  # 60 kills per tuner, about 20 minutes on 2 cores
    python benchmarks/crash_safety.py --kills 5 --tuners random

A search runs once without kills. The same search is then started, killed after a random time and resumed until it is
complete, and started over until the number of kills is reached. The benchmark counts lost finished trials, unreadable
files, leaderboards that differ from that of the first search (values and scores are compared exactly), and in MLflow
duplicate or missing runs, runs left as RUNNING, and missing or duplicate metrics.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import mlflow
import numpy as np

from keras_dl.pipeline import load_pipeline
from keras_dl.tracking.settings import Settings
from keras_dl.tuning.plan import Plan
from keras_dl.tuning.search import search

PIPELINE = '''"""Takes half a second per trial."""

import keras
import numpy as np
import tensorflow as tf

from keras_dl import Pipeline
from keras_dl.data import Splits, batches


def rows(count, seed):
    x = np.random.default_rng(seed).normal(size=(count, 16, 4)).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x, (x.sum((1, 2)) > 0).astype("float32"))).cache()


class Killed(Pipeline):
    objective = "val_loss"
    epochs = 4
    trials = 12

    def data(self, hp):
        splits = Splits(rows(384, 1), rows(128, 2), rows(128, 3))
        return batches(splits, hp.Choice("batch_size", [4, 8]), seed=self.seed)

    def build(self, hp):
        x = signal = keras.Input((None, 4), name="signal")
        x = keras.layers.Conv1D(hp.Choice("filters", [4, 8]), 3, activation="relu")(x)
        x = keras.layers.Dropout(hp.Choice("dropout", [0.1, 0.3, 0.5]))(keras.layers.GlobalAveragePooling1D()(x))
        model = keras.Model(signal, keras.layers.Dense(1, "sigmoid", name="positive")(x))
        rate = hp.Choice("learning_rate", [1e-3, 3e-3, 1e-2])
        model.compile(keras.optimizers.Adam(rate), "binary_crossentropy", metrics=["accuracy"], jit_compile=False)
        return model

    def callbacks(self, hp):
        return [keras.callbacks.ReduceLROnPlateau(monitor="val_loss", patience=1, min_delta=0.05)]
'''


def run_search(pipeline, settings, tuner, milliseconds=None):
    """Runs a search in a forked process, killed after a time if one is given; returns whether it completed.

    The process inherits all imports; this process must not have run TensorFlow before.
    """
    child = os.fork()
    if child == 0:
        status = 1
        with open(settings.root / "output.txt", "a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        with contextlib.suppress(BaseException):
            if milliseconds is not None:
                signal.setitimer(signal.ITIMER_REAL, 600)
            search(load_pipeline(pipeline), settings, Plan(tuner=tuner))
            status = 0
        os._exit(status)
    if milliseconds is not None:
        folder = settings.root / "searches" / "killed"
        while not folder.is_dir() and os.waitpid(child, os.WNOHANG) == (0, 0):
            time.sleep(0.02)  # nothing can be lost earlier
        time.sleep(milliseconds / 1000)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(child, 0)[1] == 0
    return True


def damaged(folder):
    """Returns the names of unreadable files in the state of a search."""
    bad = []
    for path in folder.rglob("*"):
        try:
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".npz":
                with np.load(path, allow_pickle=False) as file:
                    [file[name] for name in file.files]
        except FileNotFoundError:
            continue
        except Exception:
            bad.append(path.name)
    return bad


def finished(folder):
    """Returns the id of a search and {trial id: score} of its finished trials; (None, {}) without a state."""
    try:
        search_id = json.loads((folder / "search.json").read_text())["search"]
        state = json.loads((folder / "oracle.json").read_text())
    except FileNotFoundError:
        return None, {}
    return search_id, {trial_id: state["trials"][trial_id]["score"] for trial_id in state["end_order"]}


def leaderboard(settings):
    """Returns the run of the last completed search, and the values and scores of its trials."""
    client = mlflow.MlflowClient(settings.tracking_uri)
    experiment = client.get_experiment_by_name("killed").experiment_id
    runs = client.search_runs([experiment], "tags.kind = 'search' and attributes.status = 'FINISHED'", max_results=1)
    table = json.loads(Path(runs[0].info.artifact_uri.removeprefix("file://"), "trials.json").read_text())
    return runs[0], [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def faults_of_runs(settings, run):
    """Returns descriptions of the errors in the runs of a search."""
    client, found = mlflow.MlflowClient(settings.tracking_uri), []
    children = client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{run.info.run_id}'")
    names = sorted(child.info.run_name for child in children)
    if len(set(names)) != len(names) or len(names) != run.data.metrics["trials_completed"]:
        found.append(f"runs {names}")
    for child in children:
        if child.info.status != "FINISHED":
            found.append(f"{child.info.run_name} is {child.info.status}")
        steps = [point.step for point in client.get_metric_history(child.info.run_id, "val_loss")]
        begin = int(child.data.params.get("tuner/initial_epoch", 0))
        end = int(child.data.params.get("tuner/epochs", 4))
        if sorted(steps) != list(range(begin, end)):
            found.append(f"{child.info.run_name} has metrics at {steps}")
    return found


def measure(tuner, kills, generator):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        pipeline, settings = root / "killed.py", Settings(system_metrics={"enabled": False}, root=root)
        pipeline.write_text(PIPELINE)
        started = time.perf_counter()
        if not run_search(pipeline, settings, tuner):
            raise SystemExit((root / "output.txt").read_text())
        seconds = time.perf_counter() - started
        _, expected = leaderboard(settings)
        state = root / "searches" / "killed"
        count = lost = bad = different = completed = 0
        wrong, search_id, before = [], None, {}
        while count < kills:
            if run_search(pipeline, settings, tuner, generator.uniform(0, 1000 * seconds / 3)):
                run, got = leaderboard(settings)
                completed += 1
                different += got != expected
                wrong += faults_of_runs(settings, run)
                search_id = None
                continue
            count += 1
            earlier, (search_id, now) = search_id, finished(state)
            if earlier is not None and earlier == search_id:  # otherwise the search had ended before its process
                lost += sum(now.get(trial) != score for trial, score in before.items())
            before = now
            bad += len(damaged(state)) if state.is_dir() else 0
        while state.is_dir():  # complete the last search
            run_search(pipeline, settings, tuner)
            run, got = leaderboard(settings)
            completed, different = completed + 1, different + (got != expected)
            wrong += faults_of_runs(settings, run)
        shutil.copy(root / "output.txt", Path(tempfile.gettempdir()) / f"crash_safety_{tuner}.txt")
        return count, completed, lost, bad, different, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--tuners", nargs="*", default=["random", "bayesian", "hyperband", "grid"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"{'tuner':10} {'kills':>6} {'searches':>9} {'lost':>5} {'damaged':>8} {'different':>10}  errors in runs")
    for tuner in options.tuners:
        *numbers, wrong = measure(tuner, options.kills, random.Random(options.seed))
        kills, completed, lost, bad, different = numbers
        print(
            f"{tuner:10} {kills:6} {completed:9} {lost:5} {bad:8} {different:10}  {'; '.join(wrong) or 'none'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
