"""What is done with every best model: evaluated once, logged, registered, exported."""

from pathlib import Path

import keras
import keras_tuner as kt
import matplotlib.pyplot as plt
import mlflow
from matplotlib.ticker import MaxNLocator

from keras_dl.data import fingerprint
from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline
from keras_dl.release import registry
from keras_dl.release.models import log_model
from keras_dl.release.retention import retire
from keras_dl.release.served_models import show_champion, write_model_config
from keras_dl.serving.export.export import export
from keras_dl.serving.versions import exported_versions
from keras_dl.tracking.settings import Settings


def publish(
    pipeline: Pipeline, model: keras.Model, values: dict, settings: Settings, spread: float | None = None
) -> registry.Registered:
    """Evaluates a best model once on the test split, logs it to the active run and registers it.

    An objective that the test split has no metric for, as one that a callback computes, is judged by its best value in
    validation, which the run holds.

    Called again for a run whose model is registered already, as after a kill, it gives that version back.

    Args:
        pipeline: that made the model.
        model: with its best weights.
        values: its hyperparameters.
        settings: of `mlflow.yaml`.
        spread: float, standard deviation of the metric over executions; None (default) if there was one.
    """
    done = _already_registered(pipeline.name, settings)
    if done:
        mlflow.set_tags({"model_version": done.version, "alias": done.alias})
        return done
    splits = splits_of(pipeline, values)
    results = model.evaluate(splits.test, return_dict=True, verbose=0) | pipeline.report(model, splits)
    results = {name: float(value) for name, value in results.items()}
    mlflow.log_metrics({f"test_{name}": value for name, value in results.items()})
    mlflow.log_dict(dict(values), "values.json")
    for name, picture in pipeline.pictures(model, splits).items():
        log_picture(name, picture)

    batch = next(iter(splits.test))
    inputs = batch[0] if isinstance(batch, tuple) else batch
    uri = log_model(model, keras.tree.map_structure(lambda array: array[:2], inputs))
    metric, direction = pipeline.goal
    value = results.get(metric)
    if value is None:
        metric, direction = pipeline.improves.name, pipeline.improves.direction
        value = mlflow.get_run(mlflow.active_run().info.run_id).data.metrics[f"best_{metric}"]
    digest = fingerprint(splits.test)
    mlflow.set_tag("test_fingerprint", digest)
    version = registry.register(settings, pipeline.name, uri, metric, value, direction, digest, spread)
    mlflow.set_tags({"model_version": version.version, "alias": version.alias})
    print("\ntest   " + "  ".join(f"{name} {value:.4g}" for name, value in sorted(results.items())))
    print(f"model  {pipeline.name} version {version.version}, {version.alias}: {version.why}")
    return version


def _already_registered(name, settings):
    version = registry.version_of_run(name, mlflow.active_run().info.run_id)
    if version is None:
        return None
    done = registry.give_alias(settings, name, version)
    print(f"model  {name} version {done.version}, {done.alias}: registered before the interruption")
    return done


def export_champion(
    pipeline: Pipeline,
    model: keras.Model,
    values: dict,
    version: registry.Registered,
    settings: Settings,
    keep: int | None = None,
) -> None:
    """Exports a version that has just become the champion, and says what to do next.

    A challenger is not exported: a server takes the newest version of the folder, and would serve the worse model.

    Args:
        pipeline: for its `signatures`.
        model: of that version.
        values: its hyperparameters.
        version: from `publish`.
        settings: of `mlflow.yaml`.
        keep: int, exports to keep beside the champion's; None (default) keeps all.
    """
    again = f"keras-dl export {_shown(pipeline.file)} --model {version.version}"
    if version.alias != settings.registry.champion:
        write_model_config(settings)  # the challenger is another one
        print(f"export no, for the champion stays; to serve this one: {again}")
        return
    if version.version not in exported_versions(settings.saved_models, pipeline.name):
        try:
            target = export_registered(pipeline, model, values, version.version, settings)
        except UserError as error:
            raise UserError(f"{error}. The model is safe in the registry; when that is mended: {again}") from error
        print(f"export {target}")
    show_champion(settings, pipeline.name, version.version)
    if keep is not None and retire(settings, pipeline.name, keep):
        write_model_config(settings)
    print(f"\nnext   keras-dl predict {pipeline.name} --example 0")
    print(f"       keras-dl serve {pipeline.name}\n       keras-dl ui", flush=True)


def export_registered(pipeline: Pipeline, model: keras.Model, values: dict, version: int, settings: Settings) -> Path:
    """Exports a registered version; the export says where it comes from, its run and its version where it lies.

    Args:
        pipeline: for its `signatures`.
        model: of that version.
        values: its hyperparameters.
        version: int.
        settings: of `mlflow.yaml`.

    Raises:
        UserError: as `export`.
    """
    registered = registry.get_version(pipeline.name, version)
    request, origin = example_request(pipeline, values), registry.lineage(registered)
    target = export(pipeline, model, settings.saved_models, version, request, origin)
    registry.mark_exported(registered, str(target.relative_to(settings.root)))
    return target


def _shown(path):
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def splits_of(pipeline: Pipeline, values: dict):
    """The pipeline's data for these values."""
    hp = kt.HyperParameters()
    hp.values.update(values)
    return pipeline.data(hp)


def example_request(pipeline: Pipeline, values: dict) -> dict:
    """The pipeline's `request` for the first example of its test split."""
    first = next(iter(splits_of(pipeline, values).test.unbatch()))
    return pipeline.request(keras.tree.map_structure(keras.ops.convert_to_numpy, first))


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
