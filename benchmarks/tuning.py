"""What a tracked search costs: ours, with a run a trial in MLflow, against plain Keras Tuner without tracking.

    python benchmarks/tuning.py            # about 2 minutes on 2 cores

Both search the starter pipeline (`keras_dl/starter/waves.py`) with the same number of trials and epochs, interleaved
A B A B in one process. The ratio is ours over plain, median of the rounds; below 1 is faster than plain Keras Tuner.
"""

import contextlib
import io
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras_tuner as kt

import keras_dl
from keras_dl.pipeline import load_pipeline
from keras_dl.tracking.settings import Settings
from keras_dl.tuning.search import search

ROUNDS, TRIALS, EPOCHS = 3, 6, 2
STARTER = Path(keras_dl.__file__).parent / "starter" / "waves.py"


def ours(pipeline, folder):
    search(pipeline, Settings(root=folder), fresh=True)


def plain(pipeline, folder):
    class Model(kt.HyperModel):
        def declare_hyperparameters(self, hp):
            pipeline.data(hp)

        def build(self, hp):
            return pipeline.build(hp)

        def fit(self, hp, model, **kwargs):
            splits = pipeline.data(hp)
            return model.fit(splits.train, validation_data=splits.validation, verbose=0, **kwargs)

    objective = kt.Objective(pipeline.objective, "max")
    tuner = kt.RandomSearch(Model(), objective, TRIALS, seed=1, directory=folder, project_name="plain", overwrite=True)
    tuner.search(epochs=EPOCHS, callbacks=[])
    model = tuner.get_best_models()[0]
    model.evaluate(pipeline.data(tuner.get_best_hyperparameters()[0]).test, verbose=0)
    model.export(folder / f"export{time.time_ns()}", verbose=False)


def main():
    pipeline = load_pipeline(STARTER)
    pipeline.trials, pipeline.epochs = TRIALS, EPOCHS
    seconds = {ours: [], plain: []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS + 1):  # the first round warms up: imports, a new store
            for function in (plain, ours):
                began = time.perf_counter()
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                    function(pipeline, Path(folder))
                if number:
                    seconds[function].append(time.perf_counter() - began)
    ratios = [a / b for a, b in zip(seconds[ours], seconds[plain], strict=True)]
    print(f"{TRIALS} trials x {EPOCHS} epochs, {ROUNDS} rounds, {os.cpu_count()} cores, {platform.machine()}")
    print(f"plain Keras Tuner, no tracking    {statistics.median(seconds[plain]):6.1f} s")
    print(f"keras_dl, with MLflow             {statistics.median(seconds[ours]):6.1f} s")
    print(
        f"ratio, median of the rounds       {statistics.median(ratios):6.2f}  ({min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
