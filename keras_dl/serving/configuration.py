"""TensorFlow Serving's configuration files, made of what is exported and of the registry's aliases.

The live one is `saved_models/models.config`: `promote`, `rollback` and every export rewrite it, our server follows it,
and TensorFlow Serving does with `--model_config_file_poll_wait_seconds`. Its base paths are those inside the container,
`/models/NAME`.
"""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock
from google.protobuf import text_format

from keras_dl.durable import write_bytes
from keras_dl.errors import UserError
from keras_dl.serving.messages import BatchingParameters, ModelServerConfig, MonitoringConfig
from keras_dl.serving.server.config import ModelConfig, VersionPolicy
from keras_dl.serving.versions import bring_back, exported_versions, withdraw_above
from keras_dl.tracking.settings import Settings

LIVE = "models.config"
BATCHING = "batching_parameters.txt"
MONITORING = "monitoring.config"
# Unpinned: any that is at least as new as the TensorFlow that exported will do.
IMAGE = "tensorflow/serving:latest"
CONTAINER_MODELS = "/models"
METRICS_PATH = "/monitoring/prometheus/metrics"
_OURS = (
    "# Written by keras-dl: every export, promote and rollback write it anew. Paths are those inside the container.\n"
)
_LARGEST_BATCH = 64
_MOST_WAITING_BATCHES = 1000


@dataclasses.dataclass(frozen=True)
class Served:
    """A model to be served.

    Attributes:
        name: of the registry, the folder and the server.
        versions: those that a server sees in `saved_models/`, newest first; at least one.
        labels: `{alias: version}`, the registry's aliases of these versions.
    """

    name: str
    versions: tuple[int, ...]
    labels: dict[str, int]


def served_models(settings: Settings) -> list[Served]:
    """The exported models, by name, with the registry's aliases; asks the registry, which must be connected to."""
    from keras_dl.release import registry

    aliases: dict[str, dict[str, int]] = {}
    for row in registry.list_models():
        aliases.setdefault(row["name"], {}).update(dict.fromkeys(row["aliases"], row["version"]))
    folder = settings.saved_models
    names = sorted(path.name for path in folder.glob("*") if path.is_dir()) if folder.is_dir() else []
    found = []
    for name in names:
        if versions := exported_versions(folder, name):
            labels = {alias: version for alias, version in sorted(aliases.get(name, {}).items()) if version in versions}
            found.append(Served(name, tuple(versions), labels))
    return found


def model_configs(models: Iterable[Served], base: str | Path = CONTAINER_MODELS) -> list[ModelConfig]:
    """How exported models are to be served.

    A model with labels keeps as many of its newest versions in memory as the labels need, and two at least: a label can
    only move to a version that is loaded, and the old one must answer until it has moved.

    Args:
        models: from `served_models`.
        base: the folder of all models, as the server sees it. Defaults to that inside the container.
    """
    configs = []
    for model in models:
        oldest = min(model.labels.values(), default=model.versions[0])
        policy = VersionPolicy(latest=max(2, model.versions.index(oldest) + 1) if model.labels else 1)
        configs.append(ModelConfig(model.name, Path(base) / model.name, policy, model.labels))
    return configs


def model_config_text(configs: Iterable[ModelConfig]) -> str:
    """TensorFlow Serving's `--model_config_file`, a ModelServerConfig in protobuf's text form."""
    message = ModelServerConfig()
    message.model_config_list.SetInParent()  # no model at all is a list, too
    for config in configs:
        entry = message.model_config_list.config.add(
            name=config.name, base_path=str(config.base_path), model_platform="tensorflow"
        )
        if config.policy.specific is not None:
            entry.model_version_policy.specific.versions.extend(config.policy.specific)
        elif config.policy.latest is None:
            entry.model_version_policy.all.SetInParent()
        elif config.policy.latest > 1:
            entry.model_version_policy.latest.num_versions = config.policy.latest
        entry.version_labels.update(config.labels)
    return text_format.MessageToString(message, as_utf8=True)


def write_model_config(settings: Settings) -> Path:
    """Brings the live file up to date, whole or not at all; asks the registry, which must be connected to.

    One that somebody else wrote is kept as `models.config.before`.

    Args:
        settings: for `saved_models/`.

    Returns:
        The file.

    Raises:
        UserError: if it cannot be written; nothing else is lost.
    """
    path = settings.saved_models / LIVE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Who has asked the registry must write before another asks, or an old answer could be written over a newer.
        with FileLock(path.parent / f".{LIVE}.lock"):
            content = (_OURS + model_config_text(model_configs(served_models(settings)))).encode()
            there = path.read_bytes() if path.exists() else content[:0]
            if there and not there.startswith(_OURS.encode()):
                os.replace(path, path.with_name(f"{LIVE}.before"))
            if there != content:  # an unchanged file gives a server nothing to do
                write_bytes(path, content)
    except OSError as error:
        problem = f"cannot write {path}: {error.strerror or error}"
        raise UserError(f"{problem}. Servers keep the labels they have; keras-dl promote writes it again") from error
    return path


def show_champion(settings: Settings, name: str, champion: int) -> bool:
    """Makes the champion the highest version that a server sees, and moves the labels with it.

    What is above it is withdrawn, but only after the live file has given its labels to the champion.

    Args:
        settings: for `saved_models/`; the registry must be connected to.
        name: of the model.
        champion: int, its version.

    Returns:
        Whether the champion is exported; if not, nothing is hidden.

    Raises:
        UserError: if the live file cannot be written.
    """
    shown = bring_back(settings.saved_models, name, champion)
    write_model_config(settings)
    if shown:
        withdraw_above(settings.saved_models, name, champion)
        write_model_config(settings)
    return shown


def server_flags(config: str, folder: str, batching: bool = True, every_model: bool = False) -> list[str]:
    """TensorFlow Serving's options for a configuration.

    Args:
        config: path of the `models.config`, as the server sees it.
        folder: that holds the two other files, as the server sees it.
        batching: whether requests are run together. Defaults to True.
        every_model: those to all models, and not only to those whose export allows it. Defaults to False.
    """
    flags = [
        f"--model_config_file={config}",
        "--model_config_file_poll_wait_seconds=1",
        "--allow_version_labels_for_unavailable_models=true",
        f"--monitoring_config_file={folder}/{MONITORING}",
    ]
    if batching:
        flags += ["--enable_batching=true", f"--batching_parameters_file={folder}/{BATCHING}"]
        if not every_model:  # a file in each export that allows it, for not every model's rows are independent
            flags.append("--enable_per_model_batching_parameters=true")
    return flags


def batching_parameters() -> str:
    """TensorFlow Serving's `--batching_parameters_file`, BatchingParameters in protobuf's text form.

    No waiting: a batch is what came in while the threads were busy. Nothing is padded, for TensorFlow Serving pads with
    the first element of the data, which no sequence model ignores.
    """
    parameters = BatchingParameters()
    parameters.max_batch_size.value = _LARGEST_BATCH
    parameters.batch_timeout_micros.value = 0
    parameters.max_enqueued_batches.value = _MOST_WAITING_BATCHES
    parameters.num_batch_threads.value = os.cpu_count() or 1
    return text_format.MessageToString(parameters)


def monitoring_config() -> str:
    """TensorFlow Serving's `--monitoring_config_file`, MonitoringConfig in protobuf's text form."""
    monitoring = MonitoringConfig()
    monitoring.prometheus_config.enable = True
    monitoring.prometheus_config.path = METRICS_PATH
    return text_format.MessageToString(monitoring)
