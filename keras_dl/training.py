"""A pipeline and one set of values -> a trained model, tracked; and what is done with every best model."""

import math
import sys
import tempfile
import warnings
from pathlib import Path

import keras
import keras_tuner as kt
import matplotlib.pyplot as plt
import mlflow
from matplotlib.ticker import MaxNLocator

from keras_dl.data import fingerprint
from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline, space
from keras_dl.serving.export import answer, check_writable, export
from keras_dl.tracking import registry
from keras_dl.tracking.epochs import EpochLogger
from keras_dl.tracking.models import load_version, log_model
from keras_dl.tracking.runs import connect, log_origin, open_run
from keras_dl.tracking.settings import Settings

# Keras says so of every data set whose number of batches is not known beforehand, as with buckets.
warnings.filterwarnings("ignore", message="Your input ran out of data", category=UserWarning)


class ObjectiveGuard(keras.callbacks.Callback):
    """Ends a training that cannot come to anything: its objective is missing, or its loss is no number.

    Args:
        objective: str, the metric that every epoch must report.
    """

    def __init__(self, objective):
        super().__init__()
        self.objective = objective

    def on_epoch_end(self, epoch, logs=None):
        if self.objective not in logs:
            raise UserError(f"the objective {self.objective!r} is not among the metrics: {', '.join(sorted(logs))}")
        for name in ("loss", self.objective):
            if not math.isfinite(logs[name]):
                raise kt.errors.FailedTrialError(f"{name} is {logs[name]} in epoch {epoch + 1}")


def train(pipeline: Pipeline, values: dict, settings: Settings) -> registry.Registered:
    """Trains with one set of values, the defaults but for those given, and publishes the best epoch's model.

    Args:
        pipeline: from `load_pipeline`.
        values: hyperparameters that differ from their defaults.
        settings: of `mlflow.yaml`.

    Raises:
        UserError: before the training, for values outside the space, an empty split, an unusable store or folder;
            later, if the objective is missing or a loss is no number.
    """
    check_writable(settings.saved_models)
    connect(settings, pipeline.name)
    hp = space(pipeline, values)
    keras.utils.set_random_seed(pipeline.seed)
    splits, model = pipeline.data(hp), pipeline.build(hp)
    answer(pipeline, model, example_request(pipeline, hp.values))
    with open_run(settings, "train", {"kind": "train"}) as run, tempfile.TemporaryDirectory() as scratch:
        log_origin(pipeline)
        mlflow.log_params({**hp.values, "epochs": pipeline.epochs})
        best = str(Path(scratch, "best.weights.h5"))
        keep = keras.callbacks.ModelCheckpoint(
            best, monitor=pipeline.objective, mode=pipeline.goal[1], save_best_only=True, save_weights_only=True
        )
        try:
            history = model.fit(
                splits.train,
                validation_data=splits.validation,
                epochs=pipeline.epochs,
                verbose=1 if sys.stdout.isatty() else 2,
                shuffle=False,  # the data are shuffled already
                callbacks=[ObjectiveGuard(pipeline.objective), EpochLogger(run.info.run_id), keep],
            )
        except kt.errors.FailedTrialError as error:
            raise UserError(f"the training came to nothing: {error}") from error
        model.load_weights(best)
        log_picture("learning_curve", learning_curves({"": history.history[pipeline.objective]}, pipeline.objective))
        version = publish(pipeline, model, hp.values, settings)
        export_champion(pipeline, model, hp.values, version, settings)
        return version


def publish(pipeline: Pipeline, model: keras.Model, values: dict, settings: Settings) -> registry.Registered:
    """Evaluates a best model once on the test split, logs it to the active run and registers it.

    Args:
        pipeline: that made the model.
        model: with its best weights.
        values: its hyperparameters.
        settings: of `mlflow.yaml`.
    """
    splits = _splits(pipeline, values)
    metric, direction = pipeline.goal
    results = model.evaluate(splits.test, return_dict=True, verbose=0) | pipeline.report(model, splits)
    results = {name: float(value) for name, value in results.items()}
    mlflow.log_metrics({f"test_{name}": value for name, value in results.items()})
    mlflow.log_dict(dict(values), "values.json")
    for name, picture in pipeline.pictures(model, splits).items():
        log_picture(name, picture)

    batch = next(iter(splits.test))
    inputs = batch[0] if isinstance(batch, tuple) else batch
    uri = log_model(model, keras.tree.map_structure(lambda array: array[:2], inputs))
    digest = fingerprint(splits.test)
    version = registry.register(settings, pipeline.name, uri, metric, results[metric], direction, digest)
    mlflow.set_tags({"model_version": version.version, "alias": version.alias, "test_fingerprint": digest})
    print("\ntest   " + "  ".join(f"{name} {value:.4g}" for name, value in sorted(results.items())))
    print(f"model  {pipeline.name} version {version.version}, {version.alias}: {version.why}")
    return version


def export_champion(
    pipeline: Pipeline, model: keras.Model, values: dict, version: registry.Registered, settings: Settings
) -> None:
    """Exports a version that has just become the champion, and says what to do next.

    A challenger is not exported: a server takes the newest version of the folder, and would serve the worse model.

    Args:
        pipeline: for its `signatures`.
        model: of that version.
        values: its hyperparameters.
        version: from `publish`.
        settings: of `mlflow.yaml`.
    """
    again = f"keras-dl export {_shown(pipeline.file)} --model {version.version}"
    if version.alias != settings.registry.champion:
        print(f"export no, for the champion stays; to serve this one: {again}")
        return
    try:
        target = export(pipeline, model, settings.saved_models, version.version, example_request(pipeline, values))
    except UserError as error:
        raise UserError(f"{error}. The model is safe in the registry; when that is mended: {again}") from error
    print(f"export {target}\n\nnext   keras-dl predict {pipeline.name} --example 0")
    print(f"       keras-dl serve {pipeline.name}\n       keras-dl ui", flush=True)


def _shown(path):
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _splits(pipeline, values):
    hp = kt.HyperParameters()
    hp.values.update(values)
    return pipeline.data(hp)


def example_request(pipeline: Pipeline, values: dict) -> dict:
    """The pipeline's `request` for the first example of its test split."""
    first = next(iter(_splits(pipeline, values).test.unbatch()))
    return pipeline.request(keras.tree.map_structure(keras.ops.convert_to_numpy, first))


def load_trained(pipeline: Pipeline, which: str, values: dict, settings: Settings) -> tuple[keras.Model, dict, str]:
    """A trained model of the registry or a file, with the values that its data were made with.

    Args:
        pipeline: its `source` becomes that of the model's run, unless `--data` set one.
        which: an alias, a version number, or the path of a `.keras` file.
        values: hyperparameters given on the command line; they win.
        settings: of `mlflow.yaml`.

    Returns:
        `(model, values, what it is, in words)`.
    """
    if which.endswith(".keras"):
        if not Path(which).is_file():
            raise UserError(f"no model file {which}")
        try:
            model = keras.saving.load_model(which, custom_objects=pipeline.custom_objects)
        except (TypeError, ValueError, KeyError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UserError(f"{which} is no .keras model that can be loaded: {reason}") from error
        return model, space(pipeline, values).values, which
    connect(settings)
    version = registry.get_version(pipeline.name, which)
    trained, source = registry.origin(version)
    pipeline.source = pipeline.source or source
    if values:
        space(pipeline, values)  # for its errors
    return (
        load_version(version, pipeline.custom_objects),
        trained | values,
        f"{pipeline.name} version {version.version}",
    )


def evaluate(pipeline: Pipeline, which: str, split: str, values: dict, settings: Settings) -> dict[str, float]:
    """The metrics of a trained model on one split, printed and returned.

    Args:
        pipeline: from `load_pipeline`.
        which: `"champion"`, another alias, a version number, or the path of a `.keras` file.
        split: `"train"`, `"validation"` or `"test"`.
        values: hyperparameters that differ from those of the model's run.
        settings: of `mlflow.yaml`.
    """
    model, values, what = load_trained(pipeline, which, values, settings)
    splits = _splits(pipeline, values).check()
    results = model.evaluate(getattr(splits, split), return_dict=True, verbose=0)
    print(f"{what} on {split}: " + "  ".join(f"{name} {value:.4g}" for name, value in sorted(results.items())))
    return results


def export_version(pipeline: Pipeline, which: str, values: dict, settings: Settings) -> Path:
    """Exports a version of the registry again, or for the first time if its own export failed.

    Args:
        pipeline: for its `signatures`.
        which: an alias or a version number.
        values: hyperparameters that differ from those of the model's run.
        settings: of `mlflow.yaml`.
    """
    connect(settings)
    version = int(registry.get_version(pipeline.name, which).version)
    model, values, what = load_trained(pipeline, str(version), values, settings)
    target = export(pipeline, model, settings.saved_models, version, example_request(pipeline, values))
    print(f"exported {what} to {target}")
    return target


def log_picture(name: str, picture) -> None:
    """Logs a matplotlib figure as `<name>.png`, or a text as `<name>.txt`, to the active run."""
    if isinstance(picture, str):
        mlflow.log_text(picture, f"{name}.txt")
    else:
        mlflow.log_figure(picture, f"{name}.png")
        plt.close(picture)


def learning_curves(curves: dict[str, list[float]], objective: str):
    """A figure of the objective over the epochs: one line a training.

    Args:
        curves: name -> values, one an epoch.
        objective: str, the label of the axis.
    """
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, values in curves.items():
        axis.plot(range(1, len(values) + 1), values, marker="o", markersize=3, label=name)
    axis.set(xlabel="epoch", ylabel=objective)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if min((min(values) for values in curves.values() if values), default=0) > 0:
        axis.set_yscale("log")
    axis.grid(alpha=0.3)
    if len(curves) > 1:
        axis.legend(fontsize=8, ncols=2)
    return figure
