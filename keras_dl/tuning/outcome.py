"""What a search came to: told in the terminal, in its run, and in a report to read without either."""

import keras_tuner as kt
import mlflow

from keras_dl.durable import write_bytes
from keras_dl.pipeline import Pipeline
from keras_dl.tracking.settings import Settings
from keras_dl.training.publish import learning_curves, log_picture
from keras_dl.tuning.results import leaderboard, results


def log_outcome(pipeline: Pipeline, settings: Settings, oracle: kt.Oracle, found: kt.HyperParameters, run_id: str):
    """Logs what the whole search shows to the active run and writes `searches/<name>.html`.

    Args:
        pipeline: that was searched.
        settings: of `mlflow.yaml`.
        oracle: with every trial.
        found: the space.
        run_id: of the search.

    Returns:
        The best trial; None if every one failed.
    """
    raise NotImplementedError
