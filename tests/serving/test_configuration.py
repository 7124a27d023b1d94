"""The configuration files can be read by TensorFlow Serving and describe the exported models."""

from pathlib import Path

import pytest
from google.protobuf import text_format

from keras_dl.serving.configuration import (
    Served,
    batching_parameters,
    model_config_text,
    model_configs,
    monitoring_config,
)
from keras_dl.serving.messages import BatchingParameters, ModelServerConfig, MonitoringConfig
from keras_dl.serving.server.config import ModelConfig, VersionPolicy, read_model_config


def read(text):
    return text_format.Parse(text, ModelServerConfig()).model_config_list.config


def test_models_keep_the_versions_of_their_labels_and_one_more():
    models = [
        Served("a", (9, 5, 4, 1), {"champion": 9, "challenger": 4}),
        Served("b", (2,), {"champion": 2}),
        Served("c", (3,), {}),
    ]
    a, b, c = read(model_config_text(model_configs(models)))
    assert (a.name, a.base_path, a.model_platform) == ("a", "/models/a", "tensorflow")
    assert a.model_version_policy.latest.num_versions == 3
    assert dict(a.version_labels) == {"champion": 9, "challenger": 4}
    assert b.model_version_policy.latest.num_versions == 2
    assert not c.HasField("model_version_policy") and not c.version_labels


def test_names_are_quoted():
    (entry,) = read(model_config_text(model_configs([Served('b"c\nü', (1,), {})], base="/mo dels")))
    assert (entry.name, entry.base_path) == ('b"c\nü', '/mo dels/b"c\nü')


def test_written_text_is_parsed_to_the_same_models():
    configs = [
        ModelConfig("a", Path("/a"), VersionPolicy(latest=3), {"champion": 9}),
        ModelConfig("b", Path("/b"), VersionPolicy(specific=(2, 5))),
        ModelConfig("c", Path("/c"), VersionPolicy()),
        ModelConfig("d", Path("/d")),
    ]
    assert read_model_config(model_config_text(configs)) == configs
    assert read_model_config(model_config_text([])) == []


def test_the_text_is_parsed_by_tensorflow_servings_message():
    theirs = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    text = model_config_text(model_configs([Served("a", (9, 5), {"champion": 9})]))
    config = text_format.Parse(text, theirs.ModelServerConfig()).model_config_list.config[0]
    assert config.model_version_policy.latest.num_versions == 2 and config.version_labels["champion"] == 9


def test_batching_neither_waits_nor_pads():
    parameters = text_format.Parse(batching_parameters(), BatchingParameters())
    assert parameters.HasField("batch_timeout_micros") and parameters.batch_timeout_micros.value == 0
    assert not parameters.pad_variable_length_inputs
    assert parameters.max_batch_size.value > 1 and parameters.num_batch_threads.value >= 1


def test_monitoring_is_enabled():
    assert text_format.Parse(monitoring_config(), MonitoringConfig()).prometheus_config.enable
