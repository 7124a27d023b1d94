"""Loads and unloads models as their folders change, as TensorFlow Serving does.

Source: ``core/availability_preserving_policy.cc``, ``core/servable_state_monitor.cc`` and
``model_servers/server_core.cc`` of https://github.com/tensorflow/serving. Deliberate differences: a folder that cannot
be read affects only its own model; a version that fails to load immediately has the state END, and is retried when its
files change; a model whose base path changes is reloaded even if the version number stays the same; links that point
outside of the base path are rejected.
"""

import logging
import threading
import time
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from keras_dl.serving.server.config import ModelConfig, check_names
from keras_dl.serving.server.engine import LoadedModel
from keras_dl.serving.server.folders import check_links, describe_load_failure, fingerprint, wanted_versions
from keras_dl.serving.server.supervisor import loading

logger = logging.getLogger(__name__)

_LABELLED_SECONDS = 10.0
_LOADING_SECONDS = 5.0  # that the shutdown waits for a running load


@dataclass(frozen=True)
class VersionStatus:
    """The status of a version, as in TensorFlow Serving's model status.

    Attributes:
        version: version number.
        state: START, LOADING, AVAILABLE, UNLOADING or END (unloaded, or failed to load).
        error_code: OK, or the code of the load error.
        error_message: "", or the load error without paths.
    """

    version: int
    state: str
    error_code: str = "OK"
    error_message: str = ""


@dataclass(frozen=True)
class _Failure:
    files: frozenset
    time: float


class ModelStore:
    """Watches the folders of several models and loads the versions that their policies select.

    A new version is loaded before the old one is unloaded, so that a version that is broken or still being copied
    changes nothing. It is retried when its files change, and otherwise once every ``retry_seconds``. An empty folder
    unloads its model; a folder that cannot be read does not. A version that is withdrawn while a label refers to it
    stays loaded until the label has moved, for at most ten seconds, because a rollback does both one after the other.
    Running requests keep the version they started with alive.

    Use it as a context manager: a daemon thread polls from entry to exit. ``polled`` is set after the first round.

    Args:
        configs: the models. Names in requests are only looked up, never used in paths. A label takes effect when its
            version is available.
        poll_seconds: time between two polls of the folders.
        timeout_seconds: maximum duration of a prediction.
        retry_seconds: time after which a broken version is retried even if its files are unchanged.
        allow_unsafe: also load graphs that read or write files, call Python or contact other machines.

    Raises:
        tf.errors.InvalidArgumentError: if two models have the same name.
    """

    def __init__(
        self,
        configs: Iterable[ModelConfig],
        poll_seconds: float = 1.0,
        timeout_seconds: float = 30.0,
        retry_seconds: float = 60.0,
        allow_unsafe: bool = False,
    ):
        configs = list(configs)
        check_names(configs)
        self.polled = threading.Event()
        self._poll_seconds = poll_seconds
        self._timeout_seconds = timeout_seconds
        self._retry_seconds = retry_seconds
        self._allow_unsafe = allow_unsafe
        # Values are replaced as a whole under the lock, so that readers need no lock.
        self._lock = threading.RLock()
        self._configs = {config.name: config for config in configs}
        self._loaded: dict[str, dict[int, LoadedModel]] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._statuses: dict[str, dict[int, VersionStatus]] = {}
        self._failures: dict[Path, _Failure] = {}
        self._withdrawn: dict[Path, float] = {}  # when the missing folder of a labeled version was first noticed
        self._unloading: list[tuple[str, int, weakref.ref]] = []
        self._logged: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="model-store", daemon=True)

    def __enter__(self) -> "ModelStore":
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join(_LOADING_SECONDS)
        self._loaded = {}

    def names(self) -> list[str]:
        """Returns the names of the configured models."""
        return list(self._configs)

    def labels(self, name: str) -> dict[str, int]:
        """Returns the labels of a model that are in effect, and their versions."""
        return dict(self._labels.get(name, {}))

    def unavailable(self) -> list[str]:
        """Returns the names of the configured models without a loaded version."""
        return [name for name in self._configs if not self._loaded.get(name)]

    def get(self, name: str, version: int | None = None, label: str | None = None) -> LoadedModel:
        """Returns a loaded version of a model: the given version, that of the label, or the highest.

        Raises:
            tf.errors.InvalidArgumentError: if the model has no such label.
            tf.errors.NotFoundError: if there is no such model, or the version is not loaded.
            tf.errors.UnavailableError: if the model is still being loaded after a start or restart of the server.
        """
        if not self.polled.is_set() and name in self._configs and name not in self._loaded:
            raise tf.errors.UnavailableError(None, None, f"model {name} is being loaded")
        if label is not None:
            version = self._labels.get(name, {}).get(label)
            if version is None:
                raise tf.errors.InvalidArgumentError(None, None, f"Unrecognized servable version label: {label}")
        loaded = self._loaded.get(name, {})
        model = loaded.get(max(loaded, default=None) if version is None else version)
        if model is None and label is not None and self._labels.get(name, {}).get(label) != version:
            return self.get(name, label=label)  # the label moved and its old version was unloaded in between
        if model is None:
            request = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise tf.errors.NotFoundError(None, None, f"Servable not found for request: {request}")
        return model

    def status(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """Returns the status of the given version, or of all versions seen since the start, highest first.

        Raises:
            tf.errors.NotFoundError: if there is no such model or version.
        """
        statuses = self._statuses.get(name, {})
        if version is not None:
            if version not in statuses:
                raise tf.errors.NotFoundError(None, None, f"Could not find version {version} of model {name}")
            return [statuses[version]]
        if not statuses:
            raise tf.errors.NotFoundError(None, None, f"Could not find any versions of model {name}")
        return [statuses[number] for number in sorted(statuses, reverse=True)]

    def poll(self) -> None:
        """Checks all folders once, and loads and unloads versions accordingly."""
        with self._lock:
            self._unloading = [entry for entry in self._unloading if not self._is_unloaded(*entry)]
            for config in self._configs.values():
                try:
                    self._update(config)
                except Exception as error:  # an error of one model must not affect the others
                    self._log_once(config.name, f"polling failed ({error!r}), retrying")
            self.polled.set()

    def reload(self, configs: Iterable[ModelConfig], labels_wait: bool = False) -> None:
        """Applies a new configuration of all models, and returns when that is done.

        Models that are not in it are unloaded, existing models get their new folder, policy and labels, and new models
        are loaded. Broken versions are retried.

        Args:
            configs: the configuration of all models.
            labels_wait: if True, a label whose version is not available yet keeps its old version until then.

        Raises:
            tf.errors.InvalidArgumentError: if two models have the same name. Nothing is changed.
            tf.errors.FailedPreconditionError: if the version of a label is not available and `labels_wait` is False.
                Nothing is changed.
            tf.errors.UnknownError: if new models could not be loaded; they are retried, and everything else is
                applied.
        """
        configs = list(configs)
        check_names(configs)
        with self._lock:
            if not labels_wait:
                self._check_labels(configs)
            before, self._configs = self._configs, {config.name: config for config in configs}
            for name in before.keys() - self._configs.keys():
                for version in sorted(self._loaded.get(name, {})):
                    self._unload(name, version)
                self._labels.pop(name, None)
            self._failures.clear()
            self.poll()
            missing = [name for name in self.unavailable() if name not in before]
            if missing:
                shown = "".join(f"{{{self._load_error(name)}}}, " for name in missing)
                problem = f"{len(missing)} model(s) did not become available: {{{shown}}}"
                raise tf.errors.UnknownError(None, None, problem)

    def _check_labels(self, configs: list[ModelConfig]) -> None:
        for config in configs:
            for version in config.labels.values():
                if version not in self._loaded.get(config.name, {}):
                    request = f"Request to assign label to version {version} of model {config.name}"
                    problem = f"{request}, which is not currently available for inference"
                    raise tf.errors.FailedPreconditionError(None, None, problem)

    def _load_error(self, name: str) -> str:
        statuses = self._statuses.get(name)
        if not statuses:
            return f"{{name: {name}}} due to error: NOT_FOUND: Could not find any versions of model {name}"
        status = statuses[max(statuses)]
        return f"{{name: {name} version: {status.version}}} due to error: {status.error_code}: {status.error_message}"

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.poll()
            except Exception:  # no error of a file system or model may end the thread
                logger.exception("polling the model folders failed")
            self._stop.wait(self._poll_seconds)

    def _update(self, config: ModelConfig) -> None:
        """Applies TF Serving's availability-preserving policy, one action at a time."""
        self._assign_labels(config)
        try:
            wanted = wanted_versions(config)
        except (OSError, ValueError) as error:  # keep what is loaded
            reason = getattr(error, "strerror", None) or error
            self._log_once(config.name, f"cannot read its folder {config.base_path} ({reason}), retrying")
            return
        self._log_once(config.name, "" if wanted else f"none of the configured versions is in {config.base_path}")
        tried = set()
        while not self._stop.is_set():
            loaded = self._loaded.get(config.name, {})
            current = {
                number for number in loaded if number in wanted and loaded[number].folder.parent == config.base_path
            }
            unwanted = loaded.keys() - current - self._labelled(config)
            new = wanted.keys() - current - tried
            if unwanted and (current or not wanted or len(unwanted) > 1):
                self._unload(config.name, min(unwanted))
            elif new:
                number = max(new)
                tried.add(number)
                self._load(config, number, wanted[number])
                self._assign_labels(config)  # before the old version is unloaded
            else:
                break

    def _log_once(self, name: str, problem: str) -> None:
        """Logs a problem with a folder when it first occurs, and not on every poll."""
        if problem and problem != self._logged.get(name):
            logger.warning("model %s: %s", name, problem)
        self._logged[name] = problem

    def _assign_labels(self, config: ModelConfig) -> None:
        """Moves the labels whose new versions are available; others keep their old versions."""
        loaded, before = self._loaded.get(config.name, {}), self._labels.get(config.name, {})
        labels = {label: number if number in loaded else before.get(label) for label, number in config.labels.items()}
        self._labels[config.name] = {label: number for label, number in labels.items() if number is not None}

    def _labelled(self, config: ModelConfig) -> set[int]:
        """Returns the versions whose folders have just disappeared while labels still refer to them."""
        now, loaded, found = time.monotonic(), self._loaded.get(config.name, {}), set()
        for number in loaded.keys() & self._labels[config.name].values():
            folder = loaded[number].folder
            if folder.parent != config.base_path or folder.exists():
                self._withdrawn.pop(folder, None)
            elif now < self._withdrawn.setdefault(folder, now) + _LABELLED_SECONDS:
                found.add(number)
        return found

    def _load(self, config: ModelConfig, version: int, folder: Path) -> None:
        name, files, failure = config.name, fingerprint(folder), self._failures.get(folder)
        if failure and failure.files == files and time.monotonic() - failure.time < self._retry_seconds:
            return
        self._set_status(name, VersionStatus(version, "LOADING"))
        try:
            check_links(config.base_path, folder)
            with loading(f"{name}, version {version}"):
                model = LoadedModel(name, version, folder, self._timeout_seconds, self._allow_unsafe, self._stop)
        except Exception as error:  # broken files can raise any error
            code, message = describe_load_failure(error, folder, f"{name}/{version}")
            self._failures[folder] = _Failure(files, time.monotonic())
            still_loaded = version in self._loaded.get(name, {})  # from the previous base path
            status = (
                VersionStatus(version, "AVAILABLE") if still_loaded else VersionStatus(version, "END", code, message)
            )
            self._set_status(name, status)
            logger.warning("model %s, version %s failed to load: %s", name, version, message)
            return
        self._failures.pop(folder, None)
        self._loaded[name] = {**self._loaded.get(name, {}), version: model}
        self._set_status(name, VersionStatus(version, "AVAILABLE"))
        logger.info("loaded model %s, version %s", name, version)

    def _unload(self, name: str, version: int) -> None:
        loaded = dict(self._loaded[name])
        self._set_status(name, VersionStatus(version, "UNLOADING"))
        self._withdrawn.pop(loaded[version].folder, None)
        self._unloading.append((name, version, weakref.ref(loaded.pop(version))))
        self._loaded[name] = loaded

    def _is_unloaded(self, name: str, version: int, model: weakref.ref) -> bool:
        if model() is not None:
            return False
        if self._statuses[name][version].state == "UNLOADING":
            self._set_status(name, VersionStatus(version, "END"))
        return True

    def _set_status(self, name: str, status: VersionStatus) -> None:
        self._statuses[name] = {**self._statuses.get(name, {}), status.version: status}
