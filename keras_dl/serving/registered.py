"""A version of the registry -> its folder in `saved_models/`, each of which names the other."""

from pathlib import Path

import keras

from keras_dl.pipeline import Pipeline
from keras_dl.serving.export import export
from keras_dl.serving.versions import show_champion
from keras_dl.tracking import registry
from keras_dl.tracking.settings import Settings


def export_registered(pipeline: Pipeline, model: keras.Model, settings: Settings, version: int, request: dict) -> Path:
    """Exports a registered version; the folder names its run, and run and version name the folder.

    If it is the champion, it is also the version that a server takes: newer exports are withdrawn.

    Args:
        pipeline: for its name, file and `signatures`.
        model: of that version.
        settings: connected to, for the folder of all models.
        version: int, of the registry.
        request: an example request, as for `export`.

    Returns:
        The folder of the version.

    Raises:
        UserError: as `export`.
    """
    registered = registry.get_version(pipeline.name, version)
    target = export(pipeline, model, settings.saved_models, version, request, registry.lineage(registered))
    registry.mark_exported(registered, target.relative_to(settings.root).as_posix())
    champion = registry.find_version(pipeline.name, settings.registry.champion)
    if champion is not None and int(champion.version) == version:
        show_champion(settings.saved_models, pipeline.name, version)
    return target
