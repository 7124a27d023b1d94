"""TensorFlow Serving's configuration files and flags for a list of exported models.

Base paths are those inside the container, `/models/NAME`.
"""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

from google.protobuf import text_format

from keras_dl.serving.messages import BatchingParameters, ModelServerConfig, MonitoringConfig
from keras_dl.serving.server.config import ModelConfig, VersionPolicy
from keras_dl.serving.server.metrics import METRICS_PATH

BATCHING = "batching_parameters.txt"
MONITORING = "monitoring.config"
# Not pinned: any version at least as new as the TensorFlow that exported the model works.
IMAGE = "tensorflow/serving:latest"
CONTAINER_MODELS = "/models"
_LARGEST_BATCH = 64
_MOST_WAITING_BATCHES = 1000


@dataclasses.dataclass(frozen=True)
class Served:
    """An exported model: the versions that a server sees, newest first, and the registry's aliases of these."""

    name: str
    versions: tuple[int, ...]
    labels: dict[str, int]


def model_configs(models: Iterable[Served], base: str | Path = CONTAINER_MODELS) -> list[ModelConfig]:
    """Returns the server's configuration of exported models in the folder `base`, as the server sees it.

    A model with labels keeps as many of its newest versions in memory as the labels need, and at least two: a label can
    only move to a loaded version, and the old version must answer until the label has moved.
    """
    configs = []
    for model in models:
        oldest = min(model.labels.values(), default=model.versions[0])
        policy = VersionPolicy(latest=max(2, model.versions.index(oldest) + 1) if model.labels else 1)
        configs.append(ModelConfig(model.name, Path(base) / model.name, policy, model.labels))
    return configs


def model_config_text(configs: Iterable[ModelConfig]) -> str:
    """Returns TensorFlow Serving's `--model_config_file`, a ModelServerConfig message in text format."""
    message = ModelServerConfig()
    message.model_config_list.SetInParent()  # an empty list is still written
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


def server_flags(config: str, folder: str, batching: bool = True, every_model: bool = False) -> list[str]:
    """Returns TensorFlow Serving's command-line flags.

    `config` is the path of the `models.config` and `folder` that of the two other files, as the server sees them. With
    `every_model`, the requests of all models are batched, not only of those whose export allows it.
    """
    flags = [
        f"--model_config_file={config}",
        "--model_config_file_poll_wait_seconds=1",
        "--allow_version_labels_for_unavailable_models=true",
        f"--monitoring_config_file={folder}/{MONITORING}",
    ]
    if batching:
        flags += ["--enable_batching=true", f"--batching_parameters_file={folder}/{BATCHING}"]
        if not every_model:  # exports whose rows are independent contain a file
            flags.append("--enable_per_model_batching_parameters=true")
    return flags


def batching_parameters() -> str:
    """Returns TensorFlow Serving's `--batching_parameters_file`, a BatchingParameters message in text format.

    The timeout is 0: a batch holds the requests that arrived while the threads were busy. Padding is off, because
    TensorFlow Serving pads with the first element of the data, which a sequence model does not ignore.
    """
    parameters = BatchingParameters()
    parameters.max_batch_size.value = _LARGEST_BATCH
    parameters.batch_timeout_micros.value = 0
    parameters.max_enqueued_batches.value = _MOST_WAITING_BATCHES
    parameters.num_batch_threads.value = os.cpu_count() or 1
    return text_format.MessageToString(parameters)


def monitoring_config() -> str:
    """Returns TensorFlow Serving's `--monitoring_config_file`, a MonitoringConfig message in text format."""
    monitoring = MonitoringConfig()
    monitoring.prometheus_config.enable = True
    monitoring.prometheus_config.path = METRICS_PATH
    return text_format.MessageToString(monitoring)
