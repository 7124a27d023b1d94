"""What kills cost a search: `kill -9` at random moments of a search of 12 trials, with each of the four tuners.

    python benchmarks/crash_safety.py                  # 60 kills a tuner, about 20 minutes on 2 cores
    python benchmarks/crash_safety.py --kills 5 --tuners random

A search runs once undisturbed. Then the same one is started again and again and killed after a random time, until it
has come to its end, and from the beginning, until there were as many kills as wanted. Counted are finished trials that
were lost, files that cannot be read, leaderboards (values and scores to the last bit) that differ from that of the
undisturbed search, and in MLflow: runs doubled or missing, left RUNNING, points missing or doubled.
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

PIPELINE = '''"""Half a second a trial."""

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
    """Searches in a child process, killed after a time; whether it came to its end.

    The child inherits what this process has imported. It is forked before anything of TensorFlow has run here.
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
            time.sleep(0.02)  # before that there is nothing to lose
        time.sleep(milliseconds / 1000)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(child, 0)[1] == 0
    return True


def damaged(folder):
    """Files of a search's state that cannot be read."""
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
    """The id of the search, and trial id -> score of all that its state counts as ended; (None, {}) without a state."""
    try:
        search_id = json.loads((folder / "search.json").read_text())["search"]
        state = json.loads((folder / "oracle.json").read_text())
    except FileNotFoundError:
        return None, {}
    return search_id, {trial_id: state["trials"][trial_id]["score"] for trial_id in state["end_order"]}


def leaderboard(settings):
    """Values and scores of the trials of the last search that came to its end."""
    client = mlflow.MlflowClient(settings.tracking_uri)
    experiment = client.get_experiment_by_name("killed").experiment_id
    runs = client.search_runs([experiment], "tags.kind = 'search' and attributes.status = 'FINISHED'", max_results=1)
    table = json.loads(Path(runs[0].info.artifact_uri.removeprefix("file://"), "trials.json").read_text())
    return runs[0], [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]


def faults_of_runs(settings, run):
    """What is wrong with the runs of a search, in words."""
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
            found.append(f"{child.info.run_name} has points at {steps}")
    return found


def measure(tuner, kills, generator):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        pipeline, settings = root / "killed.py", Settings(system_metrics={"enabled": False}, root=root)
        pipeline.write_text(PIPELINE)
        began = time.perf_counter()
        if not run_search(pipeline, settings, tuner):
            raise SystemExit((root / "output.txt").read_text())
        seconds = time.perf_counter() - began
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
            if earlier is not None and earlier == search_id:  # else it had ended, but for its last words
                lost += sum(now.get(trial) != score for trial, score in before.items())
            before = now
            bad += len(damaged(state)) if state.is_dir() else 0
        while state.is_dir():  # the last one to its end
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
    print(f"{'tuner':10} {'kills':>6} {'searches':>9} {'lost':>5} {'damaged':>8} {'different':>10}  runs at fault")
    for tuner in options.tuners:
        *numbers, wrong = measure(tuner, options.kills, random.Random(options.seed))
        kills, completed, lost, bad, different = numbers
        print(
            f"{tuner:10} {kills:6} {completed:9} {lost:5} {bad:8} {different:10}  {'; '.join(wrong) or 'none'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
