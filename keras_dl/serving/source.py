"""Which models are served, from where, with which versions and labels: a folder of exports, or a models.config."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from keras_dl.errors import UserError
from keras_dl.serving.configuration import LIVE
from keras_dl.serving.server.config import ModelConfig, read_model_config
from keras_dl.serving.versions import exported_versions


class SavedModels:
    """The exports in `saved_models/`; versions and labels are those of the live `models.config` in it.

    Args:
        folder: of all models.
        names: those to serve. Empty: all that are exported, also those that come later.

    Attributes:
        file: that is followed.
        root: the folder that a client may reload models from.

    Raises:
        UserError: by `read`, for a name that has no folder, or if there is nothing to serve.
    """

    def __init__(self, folder: Path, names: Sequence[str] = ()):
        self.file, self.root = folder / LIVE, folder
        self._folder, self._names = folder.absolute(), list(names)

    def read(self) -> list[ModelConfig]:
        """The models as they are configured now."""
        there = sorted(path.name for path in self._folder.glob("*") if path.is_dir()) if self._folder.is_dir() else []
        for name in self._names:
            if name not in there:
                raise UserError(f"no model {name!r} in {self._folder}. There is: {', '.join(there) or 'none'}")
        names = self._names or [name for name in there if exported_versions(self._folder, name)]
        if not names:
            raise UserError("expected a model to serve and found none: make one with keras-dl tune pipelines/NAME.py")
        live = {config.name: config for config in read_model_config(_text(self.file))} if self.file.is_file() else {}
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
        file: the same.
        root: None: no client may reload models from elsewhere.

    Raises:
        UserError: by `read`, for a file that is not there or cannot be understood, with the line at fault.
    """

    def __init__(self, file: Path):
        self.file, self.root = file, None

    def read(self) -> list[ModelConfig]:
        """The models as they are configured now."""
        return read_model_config(_text(self.file))


Source = SavedModels | ConfigFile


class Follower:
    """Tells when the file of a source has changed.

    Args:
        source: whose file is looked at; a file that is not there is a state like any other.
    """

    def __init__(self, source: Source):
        self._source = source
        self._seen = self._look()

    def changed(self) -> bool:
        """Whether the file is another one than when this was last asked."""
        before, self._seen = self._seen, self._look()
        return before != self._seen

    def _look(self):
        try:
            stat = self._source.file.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error
