"""The models in memory, following their folders as TensorFlow Serving does.

Source: ``core/availability_preserving_policy.cc``, ``core/servable_state_monitor.cc`` and
``model_servers/server_core.cc`` of https://github.com/tensorflow/serving. Different on purpose: a folder that cannot be
read holds up its own model only; a version that fails is at once END, and tried again when its files change; a model
that moves to another base path is loaded from there even if the number stays; links out of the base path are refused.
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

logger = logging.getLogger(__name__)

_LABELLED_SECONDS = 10.0
_LOADING_SECONDS = 5.0  # that the end waits for what is being loaded


@dataclass(frozen=True)
class VersionStatus:
    """What TensorFlow Serving's model status tells of a version.

    Attributes:
        version: its number.
        state: START, LOADING, AVAILABLE, UNLOADING or END (unloaded, or failed to load).
        error_code: OK, or the code of the failure to load.
        error_message: "", or why it did not load, without paths.
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
    """Follows the folders of several models and serves the versions that their policies ask for.

    The new is loaded before the old is let go, so a version that is broken or still being copied changes nothing; it is
    tried again when its files have changed, and otherwise once in ``retry_seconds``. An emptied folder unloads its
    model, one that is out of reach does not. A version that is withdrawn while a label names it stays until the label
    has moved, for ten seconds at most: whoever rolls back does both, one after the other. Requests that still run keep
    the version they started with alive.

    Args:
        configs: the models. A name is only ever looked up here, never made into a path. A label waits until its
            version is available.
        poll_seconds: time between two looks at the folders.
        timeout_seconds: the longest one prediction may run.
        retry_seconds: time after which an unchanged broken version is tried again.
        allow_unsafe: True loads graphs that read or write files, call Python or speak to other machines, too.

    Raises:
        tf.errors.InvalidArgumentError: two models have one name.

    Use it as a context manager: a daemon thread polls from entry to exit. ``polled`` is set after the first round.
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
        # Changed under the lock, and each value replaced whole: readers need no lock.
        self._lock = threading.RLock()
        self._configs = {config.name: config for config in configs}
        self._loaded: dict[str, dict[int, LoadedModel]] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._statuses: dict[str, dict[int, VersionStatus]] = {}
        self._failures: dict[Path, _Failure] = {}
        self._withdrawn: dict[Path, float] = {}  # when it was first seen that a labelled version's folder is gone
        self._unloading: list[tuple[str, int, weakref.ref]] = []
        self._told: dict[str, str] = {}
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
        """The configured models."""
        return list(self._configs)

    def labels(self, name: str) -> dict[str, int]:
        """The labels of a model that are in effect, and their versions."""
        return dict(self._labels.get(name, {}))

    def unavailable(self) -> list[str]:
        """The configured models of which no version is loaded."""
        return [name for name in self._configs if not self._loaded.get(name)]

    def get(self, name: str, version: int | None = None, label: str | None = None) -> LoadedModel:
        """A loaded version of a model: the one asked for, the label's, or the highest.

        Raises:
            tf.errors.InvalidArgumentError: the model has no such label.
            tf.errors.NotFoundError: there is no such model, or the version is not loaded.
        """
        if label is not None:
            version = self._labels.get(name, {}).get(label)
            if version is None:
                raise tf.errors.InvalidArgumentError(None, None, f"Unrecognized servable version label: {label}")
        loaded = self._loaded.get(name, {})
        model = loaded.get(max(loaded, default=None) if version is None else version)
        if model is None and label is not None and self._labels.get(name, {}).get(label) != version:
            return self.get(name, label=label)  # it moved, and its old version went, between the two looks
        if model is None:
            request = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise tf.errors.NotFoundError(None, None, f"Servable not found for request: {request}")
        return model

    def status(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """The versions seen since the start, highest first, or the one asked for.

        Raises:
            tf.errors.NotFoundError: there is no such model or version.
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
        """One look at all folders: loads and unloads what has changed."""
        with self._lock:
            self._unloading = [entry for entry in self._unloading if not self._has_ended(*entry)]
            for config in self._configs.values():
                try:
                    self._follow(config)
                except Exception as error:  # whatever a file system can do to one model must not touch the others
                    self._tell(config.name, f"the look at it failed ({error!r}); tried again")
            self.polled.set()

    def reload(self, configs: Iterable[ModelConfig], labels_wait: bool = False) -> None:
        """Replaces all models by others, and returns when that is done.

        What is not among them is unloaded; a model that was there goes on, with its new folder, policy and labels; a
        new one is loaded. Broken versions are tried again.

        Args:
            configs: all models from now on.
            labels_wait: True lets a label wait until its version is available; so far it keeps what it stands for.

        Raises:
            tf.errors.InvalidArgumentError: two models have one name. Nothing has changed.
            tf.errors.FailedPreconditionError: a label's version is not available, unless labels may wait. Nothing has
                changed.
            tf.errors.UnknownError: new models could not be loaded, and are tried again; all else is as asked for.
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
                shown = "".join(f"{{{self._why(name)}}}, " for name in missing)
                problem = f"{len(missing)} model(s) did not become available: {{{shown}}}"
                raise tf.errors.UnknownError(None, None, problem)

    def _check_labels(self, configs: list[ModelConfig]) -> None:
        for config in configs:
            for version in config.labels.values():
                if version not in self._loaded.get(config.name, {}):
                    request = f"Request to assign label to version {version} of model {config.name}"
                    problem = f"{request}, which is not currently available for inference"
                    raise tf.errors.FailedPreconditionError(None, None, problem)

    def _why(self, name: str) -> str:
        statuses = self._statuses.get(name)
        if not statuses:
            return f"{{name: {name}}} due to error: NOT_FOUND: Could not find any versions of model {name}"
        status = statuses[max(statuses)]
        return f"{{name: {name} version: {status.version}}} due to error: {status.error_code}: {status.error_message}"

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.poll()
            except Exception:  # the thread must outlive whatever a file system or a model can do to it
                logger.exception("a look at the model folders failed")
            self._stop.wait(self._poll_seconds)

    def _follow(self, config: ModelConfig) -> None:
        """TF Serving's availability preserving policy, one action after the other until there is none left."""
        self._assign_labels(config)
        try:
            wanted = wanted_versions(config)
        except (OSError, ValueError) as error:  # out of reach for now, which says nothing about what is in memory
            reason = getattr(error, "strerror", None) or error
            self._tell(config.name, f"its folder {config.base_path} cannot be read ({reason}); tried again")
            return
        self._tell(config.name, "" if wanted else f"no version that is asked for is in {config.base_path}")
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
                self._assign_labels(config)  # before the version that had them goes
            else:
                break

    def _tell(self, name: str, problem: str) -> None:
        """Logs what is wrong with a folder once, and not with every look."""
        if problem and problem != self._told.get(name):
            logger.warning("model %s: %s", name, problem)
        self._told[name] = problem

    def _assign_labels(self, config: ModelConfig) -> None:
        """Puts the labels whose versions are available into effect; others keep what they stand for."""
        loaded, before = self._loaded.get(config.name, {}), self._labels.get(config.name, {})
        labels = {label: number if number in loaded else before.get(label) for label, number in config.labels.items()}
        self._labels[config.name] = {label: number for label, number in labels.items() if number is not None}

    def _labelled(self, config: ModelConfig) -> set[int]:
        """The versions whose folders have just gone, and which labels still name."""
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
            model = LoadedModel(name, version, folder, self._timeout_seconds, self._allow_unsafe, self._stop)
        except Exception as error:  # a broken file can raise anything, and must not end the polling
            code, message = describe_load_failure(error, folder, f"{name}/{version}")
            self._failures[folder] = _Failure(files, time.monotonic())
            still_there = version in self._loaded.get(name, {})  # the one of the base path before
            status = (
                VersionStatus(version, "AVAILABLE") if still_there else VersionStatus(version, "END", code, message)
            )
            self._set_status(name, status)
            logger.warning("model %s, version %s did not load: %s", name, version, message)
            return
        self._failures.pop(folder, None)
        self._loaded[name] = {**self._loaded.get(name, {}), version: model}
        self._set_status(name, VersionStatus(version, "AVAILABLE"))
        logger.info("model %s, version %s is loaded", name, version)

    def _unload(self, name: str, version: int) -> None:
        loaded = dict(self._loaded[name])
        self._set_status(name, VersionStatus(version, "UNLOADING"))
        self._withdrawn.pop(loaded[version].folder, None)
        self._unloading.append((name, version, weakref.ref(loaded.pop(version))))
        self._loaded[name] = loaded

    def _has_ended(self, name: str, version: int, model: weakref.ref) -> bool:
        if model() is not None:
            return False
        if self._statuses[name][version].state == "UNLOADING":
            self._set_status(name, VersionStatus(version, "END"))
        return True

    def _set_status(self, name: str, status: VersionStatus) -> None:
        self._statuses[name] = {**self._statuses.get(name, {}), status.version: status}
