"""What a trained model is worth, and its export on demand."""

from pathlib import Path

import keras

from keras_dl.errors import UserError, reason_of
from keras_dl.pipeline import Pipeline, space
from keras_dl.release import registry
from keras_dl.release.models import load_version
from keras_dl.release.publish import example_request, export_registered, splits_of
from keras_dl.release.served_models import show_champion, write_model_config
from keras_dl.serving.export.check import check
from keras_dl.serving.export.endpoints import endpoints_of
from keras_dl.serving.export.expected import expected_answers, request_arrays
from keras_dl.serving.versions import exported_versions
from keras_dl.tracking.runs import connect
from keras_dl.tracking.settings import Settings


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
            raise UserError(f"{which} is no .keras model that can be loaded: {reason_of(error)}") from error
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
    splits = splits_of(pipeline, values).check()
    results = model.evaluate(getattr(splits, split), return_dict=True, verbose=0)
    print(f"{what} on {split}: " + "  ".join(f"{name} {value:.4g}" for name, value in sorted(results.items())))
    return results


def check_version(pipeline: Pipeline, which: str, values: dict, settings: Settings, folder: Path) -> bool:
    """Checks an export on the disk, and compares its answers with those of a trained model.

    Args:
        pipeline: for its `signatures`.
        which: an alias, a version number, or the path of a `.keras` file.
        values: hyperparameters that differ from those of the model's run.
        settings: of `mlflow.yaml`.
        folder: of the export.

    Returns:
        Whether it can be served, see `keras_dl.serving.export.check.check`.
    """
    model, values, what = load_trained(pipeline, which, values, settings)
    print(f"compared with {what}")
    endpoint = endpoints_of(pipeline, model)["serving_default"]
    request = request_arrays(pipeline, endpoint, example_request(pipeline, values))
    return check(folder, expected_answers(pipeline, endpoint, request))


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
    target = export_registered(pipeline, model, values, version, settings)
    print(f"exported {what} to {target}")
    champion = registry.find_version(pipeline.name, settings.registry.champion)
    if champion is not None and version == int(champion.version):
        show_champion(settings, pipeline.name, version)  # a server takes the highest version it sees
        return target
    write_model_config(settings)
    if version == max(exported_versions(settings.saved_models, pipeline.name)):
        print(
            f"       who asks a server for no version gets it from now on; to have the champion there: "
            f"keras-dl promote {pipeline.name} {'VERSION' if champion is None else champion.version}"
        )
    return target
