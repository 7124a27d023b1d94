"""Evaluation and export of registered models, and examples of the data that they were tested on."""

from pathlib import Path

import keras
import keras_tuner as kt

from keras_dl.errors import UserError, reason_of
from keras_dl.pipeline import Pipeline, example_request, load_pipeline, splits_of
from keras_dl.release import registry
from keras_dl.release.models import load_version
from keras_dl.release.publish import export_registered
from keras_dl.release.served_models import show_champion, write_model_config
from keras_dl.serving.export.check import check
from keras_dl.serving.export.endpoints import endpoints_of
from keras_dl.serving.export.expected import expected_answers, request_arrays
from keras_dl.serving.versions import exported_versions
from keras_dl.space import space
from keras_dl.tracking.runs import connect
from keras_dl.tracking.settings import Settings


def load_trained(pipeline: Pipeline, which: str, values: dict, settings: Settings) -> tuple[keras.Model, dict, str]:
    """Returns `(model, values, description)` of a trained model, with the hyperparameters of its data.

    Args:
        pipeline: its `source` is set to that of the model's run, unless it has one from `--data`.
        which: an alias, a version number, or the path of a `.keras` file.
        values: hyperparameters of the command line; they take precedence.
        settings: the settings of the project.
    """
    if which.endswith(".keras"):
        if not Path(which).is_file():
            raise UserError(f"model file {which} does not exist")
        try:
            model = keras.saving.load_model(which, custom_objects=pipeline.custom_objects)
        except (TypeError, ValueError, KeyError, OSError) as error:
            raise UserError(f"{which} cannot be loaded as a .keras model: {reason_of(error)}") from error
        return model, space(pipeline, values).values, which
    connect(settings)
    version = registry.get_version(pipeline.name, which)
    trained, source = registry.origin(version)
    pipeline.source = pipeline.source or source
    if values:
        values = space(pipeline, values).given  # raises for invalid values
    return (
        load_version(version, pipeline.custom_objects),
        trained | values,
        f"{pipeline.name} version {version.version}",
    )


def evaluate(pipeline: Pipeline, which: str, split: str, values: dict, settings: Settings) -> dict[str, float]:
    """Prints and returns the metrics of a trained model (see `load_trained`) on the split "train", "validation" or
    "test".
    """
    model, values, description = load_trained(pipeline, which, values, settings)
    splits = splits_of(pipeline, values).check()
    results = model.evaluate(getattr(splits, split), return_dict=True, verbose=0)
    print(f"{description} on {split}: " + "  ".join(f"{name} {value:.4g}" for name, value in sorted(results.items())))
    return results


def check_version(pipeline: Pipeline, which: str, values: dict, settings: Settings, folder: Path) -> bool:
    """Checks an export on disk and compares its outputs with those of a trained model (see `load_trained`).

    Returns whether it can be served; see `keras_dl.serving.export.check.check`.
    """
    model, values, description = load_trained(pipeline, which, values, settings)
    print(f"compared with {description}")
    endpoint = endpoints_of(pipeline, model)["serving_default"]
    request = request_arrays(pipeline, endpoint, example_request(pipeline, values))
    return check(folder, expected_answers(pipeline, endpoint, request))


def export_version(pipeline: Pipeline, which: str, values: dict, settings: Settings) -> Path:
    """Exports a registered version, for example a challenger or one whose export was deleted or failed.

    Returns the folder of the export. `values` override the hyperparameters of the model's run.
    """
    connect(settings)
    version = int(registry.get_version(pipeline.name, which).version)
    model, values, description = load_trained(pipeline, str(version), values, settings)
    target = export_registered(pipeline, model, values, version, settings)
    print(f"exported {description} to {target}")
    champion = registry.find_version(pipeline.name, settings.registry.champion)
    if champion is not None and version == int(champion.version):
        show_champion(settings, pipeline.name, version)  # servers use the highest version in the folder
        return target
    write_model_config(settings)
    if version == max(exported_versions(settings.saved_models, pipeline.name)):
        print(
            f"       servers now use this version by default; to make them use the champion: "
            f"keras-dl promote {pipeline.name} {'VERSION' if champion is None else champion.version}"
        )
    return target


def example_of(name: str, settings: Settings, index: int) -> tuple[dict, str | None]:
    """Returns the request of a test example, and the expected answer if the pipeline, `pipelines/<name>.py`, defines
    it.

    The data are those of the newest exported version: its hyperparameters and its `--data`, from the registry. Examples
    are counted from 0.
    """
    pipeline = load_pipeline(settings.root / "pipelines" / f"{name}.py")
    hp = kt.HyperParameters()
    connect(settings)
    versions = exported_versions(settings.saved_models, name)
    version = registry.find_version(name, versions[0]) if versions else None
    if version is not None:
        values, pipeline.source = registry.origin(version)
        hp.values.update(values)
    test = pipeline.data(hp).test.unbatch()
    if index < 0:
        raise UserError(f"expected --example >= 0. Received: {index}")
    found = next(iter(test.skip(index).take(1).as_numpy_iterator()), None)
    if found is None:
        raise UserError(f"the test split of {name} has {sum(1 for _ in test)} examples. Received: --example {index}")
    return pipeline.request(found), pipeline.answer(found)
