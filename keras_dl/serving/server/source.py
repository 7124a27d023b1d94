"""Sources of the served models, their versions and labels: a folder of exports, or a `models.config` file."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from keras_dl.errors import UserError
from keras_dl.serving.server.config import ModelConfig, read_model_config
from keras_dl.serving.versions import exported_versions

LIVE = "models.config"


class SavedModels:
    """Serves the exports in `saved_models/`, with the versions and labels of the live `models.config` in it.

    Args:
        folder: the folder of all models.
        names: names of the models to serve. Empty: all exported models, including later ones.

    Attributes:
        root: the folder from which clients may load models.

    Raises:
        UserError: by `read`, if a model has no folder, or if there is no model to serve.
    """

    def __init__(self, folder: Path, names: Sequence[str] = ()):
        self.root = folder
        self._file = folder / LIVE
        self._folder, self._names = folder.absolute(), list(names)

    def read(self) -> list[ModelConfig]:
        """Returns the current configuration of the models."""
        names = [path.name for path in self._folder.glob("*") if path.is_dir()]
        # A name that is not UTF-8 cannot appear in an answer.
        existing = sorted(name for name in names if name.encode(errors="ignore").decode() == name)
        for name in self._names:
            if name not in existing:
                available = ", ".join(existing) or "none"
                raise UserError(f"no model {name!r} in {self._folder}. Available: {available}")
        names = self._names or [name for name in existing if exported_versions(self._folder, name)]
        if not names:
            raise UserError(f"no model to serve in {self._folder}: create one with keras-dl tune pipelines/NAME.py")
        live = {config.name: config for config in read_model_config(_text(self._file))} if self._file.is_file() else {}
        default = {name: ModelConfig(name, self._folder / name) for name in names}
        # The base paths in the file are those of a container.
        return [
            dataclasses.replace(live.get(name, config), base_path=config.base_path) for name, config in default.items()
        ]


class ConfigFile:
    """Serves the models of the user's own `models.config`, as TensorFlow Serving does.

    Args:
        file: a ModelServerConfig message in text format.

    Attributes:
        root: None: clients may not load other models.

    Raises:
        UserError: by `read`, if the file does not exist or is invalid, with line and column.
    """

    def __init__(self, file: Path):
        self.root = None
        self._file = file

    def read(self) -> list[ModelConfig]:
        """Returns the current configuration of the models."""
        return read_model_config(_text(self._file))


Source = SavedModels | ConfigFile


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error
