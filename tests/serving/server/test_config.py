"""TensorFlow Serving's model_config_list: parsing, and the messages for invalid configurations.

The cases follow TensorFlow Serving's server_core_test.cc and the behavior of its binary.
"""

from pathlib import Path

import pytest
import tensorflow as tf
from google.protobuf import text_format

from keras_dl.errors import UserError
from keras_dl.serving.messages import ModelServerConfig
from keras_dl.serving.server.config import ModelConfig, VersionPolicy, model_configs, read_model_config


def one(content):
    return f"model_config_list {{ config {{ {content} }} }}"


COMPLETE = 'name: "m" base_path: "/models/m" model_platform: "tensorflow"'


@pytest.mark.parametrize(
    "policy, read",
    [
        ("", VersionPolicy(latest=1)),
        ("model_version_policy {}", VersionPolicy(latest=1)),
        ("model_version_policy { latest {} }", VersionPolicy(latest=1)),
        ("model_version_policy { latest { num_versions: 0 } }", VersionPolicy(latest=1)),
        ("model_version_policy { latest { num_versions: 3 } }", VersionPolicy(latest=3)),
        ("model_version_policy { all {} }", VersionPolicy()),
        ("model_version_policy { specific { versions: 2 versions: [7, 5] } }", VersionPolicy(specific=(2, 7, 5))),
        ("model_version_policy { specific {} }", VersionPolicy(specific=())),
    ],
)
def test_policies(policy, read):
    assert read_model_config(one(f"{COMPLETE} {policy}")) == [ModelConfig("m", Path("/models/m"), read)]


def test_labels_several_models_and_comments():
    text = f"""
    # the champion
    model_config_list: {{
      config {{ {COMPLETE} version_labels {{ key: "stable" value: 43 }} version_labels {{ key: 'canary' value: 44 }} }}
      config: {{ name: 'other' base_path: '/elsewhere' model_type: TENSORFLOW }}
    }}""".replace("TENSORFLOW", "1")
    first, second = read_model_config(text)
    assert first.labels == {"stable": 43, "canary": 44}
    assert second == ModelConfig("other", Path("/elsewhere"))


def test_an_empty_list_is_valid():
    assert read_model_config("model_config_list {}") == []


@pytest.mark.parametrize(
    "content, message",
    [
        (
            'name: "m" base_path: "models/m" model_platform: "tensorflow"',
            "Expected model m to have an absolute path or URI; got base_path()=models/m",
        ),
        (
            'name: "m" model_platform: "tensorflow"',
            "Expected model m to have an absolute path or URI; got base_path()=",
        ),
        (
            'name: "m" base_path: "gs://bucket/m" model_platform: "tensorflow"',
            "Expected model m to have a local folder; got base_path()=gs://bucket/m",
        ),
        ('base_path: "/m" model_platform: "tensorflow"', "Expected every model of the config list to have a name"),
        (
            'name: "m" base_path: "/m"',
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            "ModelServerConfig::model_platform, model name is m",
        ),
        (
            f"{COMPLETE} model_type: 1",
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            "ModelServerConfig::model_platform, model name is m",
        ),
        ('name: "m" base_path: "/m" model_type: 2', "ModelServerConfig::model_type choice 2 not supported."),
        (
            'name: "m" base_path: "/m" model_platform: "pytorch"',
            "Model m requests unsupported platform pytorch",
        ),
        (f"{COMPLETE} }} config {{ {COMPLETE}", "Illegal to list model m multiple times in config list"),
    ],
)
def test_invalid_configurations_are_rejected_in_files_and_messages(content, message):
    with pytest.raises(UserError) as caught:
        read_model_config(one(content))
    assert str(caught.value) == message
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        model_configs(text_format.Parse(one(content), ModelServerConfig()))
    assert caught.value.message == message


@pytest.mark.parametrize(
    "text, message",
    [
        ("model_config_list {\n  config {\n    nam: 'm'\n  }\n}", "line:column 3:5 "),
        ("model_config_list {\n  config {", "line:column 2:"),
        ("custom_model_config {}", 'no field named "custom_model_config"'),
        ("\n\0", "line:column 2:1 "),
        (one(f"{COMPLETE} version_labels {{ key: 'a' value: 9223372036854775808 }}"), "line:column 1:"),
    ],
)
def test_malformed_text_is_rejected_with_its_line(text, message):
    with pytest.raises(UserError, match="^invalid model_config_list of TensorFlow Serving at ") as caught:
        read_model_config(text)
    assert message in str(caught.value)


def test_an_empty_file_and_an_empty_message_are_rejected():
    with pytest.raises(UserError, match="Only ModelConfigList is currently supported"):
        read_model_config("# nothing\n")
    message = (
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        model_configs(ModelServerConfig())


def test_messages_of_tensorflow_serving_api_are_read_in_the_same_way():
    model_server_config_pb2 = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    content = f"{COMPLETE} model_version_policy {{ specific {{ versions: 3 }} }} version_labels {{ key: 'a' value: 3 }}"
    theirs = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(one(content), theirs)
    assert model_configs(theirs) == read_model_config(one(content))
    theirs.Clear()
    theirs.custom_model_config.SetInParent()
    with pytest.raises(tf.errors.InvalidArgumentError, match="Only ModelConfigList"):
        model_configs(theirs)


def test_logging_config_is_ignored_with_a_warning(caplog):
    text = one(f"{COMPLETE} logging_config {{ sampling_config {{ sampling_rate: 0.1 }} }}")
    assert len(read_model_config(text)) == 1
    assert "logging_config of model m is ignored" in caplog.text
