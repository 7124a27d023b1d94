"""Which models are served, from where, with which versions and labels: a folder of exports, or a models.config."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from keras_dl.errors import UserError
from keras_dl.serving.server.config import ModelConfig, read_model_config
from keras_dl.serving.versions import exported_versions

LIVE = "models.config"


class SavedModels:
    """The exports in `saved_models/`; versions and labels are those of the live `models.config` in it.

    Args:
        folder: of all models.
        names: those to serve. Empty: all that are exported, also those that come later.

    Attributes:
        root: the folder that a client may reload models from.

    Raises:
        UserError: by `read`, for a name that has no folder, or if there is nothing to serve.
    """

    def __init__(self, folder: Path, names: Sequence[str] = ()):
        self.root = folder
        self._file = folder / LIVE
        self._folder, self._names = folder.absolute(), list(names)

    def read(self) -> list[ModelConfig]:
        """The models as they are configured now."""
        names = [path.name for path in self._folder.glob("*") if path.is_dir()]
        # One that is no UTF-8 fits into no answer.
        there = sorted(name for name in names if name.encode(errors="ignore").decode() == name)
        for name in self._names:
            if name not in there:
                raise UserError(f"no model {name!r} in {self._folder}. There is: {', '.join(there) or 'none'}")
        names = self._names or [name for name in there if exported_versions(self._folder, name)]
        if not names:
            raise UserError("expected a model to serve and found none: make one with keras-dl tune pipelines/NAME.py")
        live = {config.name: config for config in read_model_config(_text(self._file))} if self._file.is_file() else {}
        default = {name: ModelConfig(name, self._folder / name) for name in names}
        # Its base paths are those of a container.
        return [
            dataclasses.replace(live.get(name, config), base_path=config.base_path) for name, config in default.items()
        ]


class ConfigFile:
    """A `models.config` of one's own, read as TensorFlow Serving reads it.

    Args:
        file: a ModelServerConfig in protobuf's text form.

    Attributes:
        root: None: no client may reload models from elsewhere.

    Raises:
        UserError: by `read`, for a file that is not there or cannot be understood, with the line at fault.
    """

    def __init__(self, file: Path):
        self.root = None
        self._file = file

    def read(self) -> list[ModelConfig]:
        """The models as they are configured now."""
        return read_model_config(_text(self._file))


Source = SavedModels | ConfigFile


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error
