"""Reads and validates TensorFlow Serving's ``model_config_list``: the models that a server serves.

Source: ``config/model_server_config.proto`` and ``ValidateModelConfigList`` of ``model_servers/server_core.cc`` in
https://github.com/tensorflow/serving; error messages are the same. Deliberately stricter: a model needs a name, and a
base path must be a local folder, not a URI.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import tensorflow as tf
from google.protobuf import text_format

from keras_dl.errors import UserError
from keras_dl.serving.messages import ModelServerConfig
from keras_dl.serving.server.errors import invalid

logger = logging.getLogger(__name__)

_TENSORFLOW = "tensorflow"
_MODEL_TYPE_TENSORFLOW = 1  # value of the deprecated field model_type


@dataclass(frozen=True)
class VersionPolicy:
    """Selects the versions to serve; all of them if both attributes are None.

    Attributes:
        latest: serve this many of the highest version numbers.
        specific: serve exactly these versions.
    """

    latest: int | None = None
    specific: tuple[int, ...] | None = None


@dataclass(frozen=True)
class ModelConfig:
    """The configuration of one served model.

    Attributes:
        name: the name used in requests.
        base_path: the folder that contains the version folders.
        policy: selects the versions to serve. Defaults to the latest one.
        labels: `{label: version}`.
    """

    name: str
    base_path: Path
    policy: VersionPolicy = VersionPolicy(latest=1)
    labels: Mapping[str, int] = field(default_factory=dict)


def read_model_config(text: str) -> list[ModelConfig]:
    """Parses a ``--model_config_file``, a ModelServerConfig message in text format.

    Raises:
        UserError: if the text is malformed, with line and column, or if TF Serving rejects the configuration, with
            its message.
    """
    message = ModelServerConfig()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise UserError(f"invalid model_config_list of TensorFlow Serving at line:column {error}") from None
    try:
        return model_configs(message)
    except tf.errors.OpError as error:
        raise UserError(error.message) from None


def model_configs(message) -> list[ModelConfig]:
    """Converts a ModelServerConfig message, ours or that of ``tensorflow-serving-api``.

    Raises:
        tf.errors.InvalidArgumentError: if it has no ``model_config_list``, or one that TF Serving rejects.
    """
    if not message.HasField("model_config_list"):
        problem = "ServerModelConfig type not supported by HandleReloadConfigRequest."
        raise invalid(f"{problem} Only ModelConfigList is currently supported")
    configs = [_model_config(config) for config in message.model_config_list.config]
    check_names(configs)
    return configs


def check_names(configs: Iterable[ModelConfig]) -> None:
    """Raises tf.errors.InvalidArgumentError if two models have the same name."""
    names = set()
    for config in configs:
        if config.name in names:
            raise invalid(f"Illegal to list model {config.name} multiple times in config list")
        names.add(config.name)


def _model_config(config) -> ModelConfig:
    if not config.name:
        raise invalid("Expected every model of the config list to have a name")
    if not config.base_path.startswith("/"):
        needed = "a local folder" if "://" in config.base_path else "an absolute path or URI"
        raise invalid(f"Expected model {config.name} to have {needed}; got base_path()={config.base_path}")
    platform = _platform(config)
    if platform != _TENSORFLOW:
        raise invalid(f"Model {config.name} requests unsupported platform {platform}")
    if config.HasField("logging_config"):
        logger.warning("logging_config of model %s is ignored: this server does not log requests", config.name)
    policy = _policy(config.model_version_policy)
    return ModelConfig(config.name, Path(config.base_path), policy, dict(config.version_labels))


def _platform(config) -> str:
    if not config.model_type:
        if not config.model_platform:
            setting = "neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform"
            raise invalid(f"Illegal setting {setting}, model name is {config.name}")
        return config.model_platform
    if config.model_platform:
        setting = "both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform"
        raise invalid(f"Illegal setting {setting}, model name is {config.name}")
    if config.model_type != _MODEL_TYPE_TENSORFLOW:
        raise invalid(f"ModelServerConfig::model_type choice {config.model_type} not supported.")
    return _TENSORFLOW


def _policy(policy) -> VersionPolicy:
    if policy.HasField("all"):
        return VersionPolicy()
    if policy.HasField("specific"):
        return VersionPolicy(specific=tuple(policy.specific.versions))
    return VersionPolicy(latest=max(policy.latest.num_versions, 1))
