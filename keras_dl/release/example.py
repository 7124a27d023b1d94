"""An example of the data that a registered model was tested on."""

import keras_tuner as kt

from keras_dl.errors import UserError
from keras_dl.pipeline import load_pipeline
from keras_dl.release import registry
from keras_dl.serving.versions import exported_versions
from keras_dl.tracking.runs import connect
from keras_dl.tracking.settings import Settings


def example_of(name: str, settings: Settings, index: int) -> tuple[dict, str | None]:
    """Returns the request of a test example, and the expected answer if the pipeline defines it.

    The data are those of the newest exported version: its hyperparameters and its `--data`, from the registry.

    Args:
        name: str, the model; its pipeline is `pipelines/<name>.py`.
        settings: the `Settings` of the project.
        index: int, the number of the example in the test split, from 0.

    Raises:
        UserError: if there is no such pipeline or example.
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
