"""Publishing the best model of a search or training run: evaluation, registration and export."""

import shutil
from pathlib import Path

import keras
import mlflow

from keras_dl.data import fingerprint
from keras_dl.errors import UserError, shown_path
from keras_dl.pipeline import Pipeline, example_request, splits_of
from keras_dl.release import registry
from keras_dl.release.models import log_model
from keras_dl.release.served_models import set_aside_others, show_champion, write_model_config
from keras_dl.serving.export.export import export
from keras_dl.serving.versions import exported_versions, rename, withdrawn_folder, withdrawn_versions
from keras_dl.tracking.figures import log_pictures
from keras_dl.tracking.names import recorded_name, with_mlflow_names
from keras_dl.tracking.settings import Settings


def publish(
    pipeline: Pipeline, model: keras.Model, values: dict, settings: Settings, spread: float | None = None
) -> registry.Registered:
    """Evaluates the best model once on the test split, logs it to the active run and registers it.

    If the test split has no metric for the objective, for example because a callback computes it, the model is judged
    by the best validation value of the run. If the model of the run is already registered, for example by a process
    that was killed afterward, that version is returned. `spread` is the standard deviation of the metric over
    executions, if there were several.
    """
    done = _already_registered(pipeline.name, settings)
    if done:
        mlflow.set_tags({"model_version": done.version, "alias": done.alias})
        return done
    splits = splits_of(pipeline, values)
    results = model.evaluate(splits.test, return_dict=True, verbose=0) | _report(pipeline, model, splits)
    mlflow.log_metrics(with_mlflow_names({f"test_{name}": value for name, value in results.items()}))
    mlflow.log_dict(dict(values), "values.json")
    log_pictures(pipeline.pictures(model, splits))

    batch = next(iter(splits.test))
    inputs = batch[0] if isinstance(batch, tuple) else batch
    uri = log_model(model, keras.tree.map_structure(lambda array: array[:2], inputs))
    metric, direction = pipeline.goal.test_metric
    value = results.get(metric)
    if value is None:
        metric, direction = pipeline.goal.name, pipeline.goal.direction
        recorded = mlflow.get_run(mlflow.active_run().info.run_id).data.metrics
        value = recorded[recorded_name(f"best_{metric}", recorded)]
    digest = fingerprint(splits.test)
    mlflow.set_tag("test_fingerprint", digest)
    version = registry.register(settings, pipeline.name, uri, metric, value, direction, digest, spread)
    mlflow.set_tags({"model_version": version.version, "alias": version.alias})
    print("\ntest   " + "  ".join(f"{name} {value:.4g}" for name, value in sorted(results.items())))
    print(f"model  {pipeline.name} version {version.version}, {version.alias}: {version.why}")
    return version


def _report(pipeline, model, splits):
    report = pipeline.report(model, splits)
    try:
        return {name: float(value) for name, value in report.items()}
    except (AttributeError, TypeError, ValueError):
        raise UserError(
            f"report(model, splits) of {pipeline.name} must return {{name: number}}. Received: {report!r:.200}"
        ) from None


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
    """Exports a version that has just become the champion and prints the next commands.

    A challenger is not exported: servers use the newest version in the folder and would serve the worse model. With
    `keep`, only that many of the newest exports are kept (see `retire`).
    """
    set_aside_others(settings, pipeline.name)
    again = f"keras-dl export {shown_path(pipeline.file)} --model {version.version}"
    if version.alias != settings.registry.champion:
        write_model_config(settings)  # the challenger's label moves
        print(f"export skipped, the champion stays; to serve this version: {again}")
        return
    if version.version not in exported_versions(settings.saved_models, pipeline.name):
        try:
            target = export_registered(pipeline, model, values, version.version, settings)
        except UserError as error:
            raise UserError(f"{error}. The model is safe in the registry; to export it later: {again}") from error
        print(f"export {target}")
    show_champion(settings, pipeline.name, version.version)
    if keep is not None and retire(settings, pipeline.name, keep):
        write_model_config(settings)
    print(f"\nnext   keras-dl predict {pipeline.name} --example 0")
    print(f"       keras-dl serve {pipeline.name}\n       keras-dl ui", flush=True)


def export_registered(pipeline: Pipeline, model: keras.Model, values: dict, version: int, settings: Settings) -> Path:
    """Exports a registered version to the returned folder, and tags its run and version with the path of the export."""
    set_aside_others(settings, pipeline.name)  # an export from another store may have this number
    registered = registry.get_version(pipeline.name, version)
    request, origin = example_request(pipeline, values), registry.lineage(registered)
    target = export(pipeline, model, settings.saved_models, version, request, origin)
    registry.mark_exported(registered, str(target.relative_to(settings.root)))
    return target


def retire(settings: Settings, name: str, keep: int) -> list[int]:
    """Removes all but the newest exports of a model, withdrawn ones included, and prints them; keeps the champion's.

    The versions remain in the registry, and `keras-dl export` can export them again. Returns the removed ones, newest
    first.
    """
    if keep < 1:
        raise UserError(f"expected to keep at least 1 export of {name}. Received: {keep}")
    champion = registry.find_version(name, settings.registry.champion)
    folder, withdrawn = settings.saved_models, withdrawn_versions(settings.saved_models, name)
    versions = sorted({*withdrawn, *exported_versions(folder, name)}, reverse=True)
    removed = [version for version in versions[keep:] if champion is None or version != int(champion.version)]
    for version in removed:
        for path in (folder / name / str(version), withdrawn_folder(folder, name, version)):
            if path.is_dir():
                # Renamed first, so that an interrupted removal leaves no partial version for a server to load.
                doomed = folder / name / f".tmp-retired-{version}"
                shutil.rmtree(doomed, ignore_errors=True)
                rename(path, doomed)
                shutil.rmtree(doomed)
    if removed:
        print(f"removed the exports of {name} {', '.join(map(str, removed))}; they remain in the registry")
    return removed
