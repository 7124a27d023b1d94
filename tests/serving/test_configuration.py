"""The configuration is what TensorFlow Serving reads, and says what is exported and what the registry calls it."""

from pathlib import Path

import mlflow
import pytest
from google.protobuf import text_format

from keras_dl.errors import UserError
from keras_dl.release.champion import promote
from keras_dl.serving import configuration
from keras_dl.serving.configuration import (
    Served,
    batching_parameters,
    model_config_text,
    model_configs,
    monitoring_config,
    served_models,
    write_model_config,
)
from keras_dl.serving.messages import BatchingParameters, ModelServerConfig, MonitoringConfig
from keras_dl.serving.server.config import ModelConfig, VersionPolicy, read_model_config
from keras_dl.tracking.runs import connect


@pytest.fixture
def digits(project):
    """Versions 1 to 4 of digits in the registry, 3 the champion and 4 the challenger; 1 to 3 exported."""
    connect(project)
    client = mlflow.MlflowClient()
    client.create_registered_model("digits")
    client.create_registered_model("never_exported")
    for version in range(1, 5):
        client.create_model_version("digits", "nowhere")
        if version < 4:
            (project.saved_models / "digits" / str(version)).mkdir(parents=True)
    client.set_registered_model_alias("digits", "champion", "3")
    client.set_registered_model_alias("digits", "challenger", "4")
    (project.saved_models / "by_hand" / "7").mkdir(parents=True)
    (project.saved_models / "empty").mkdir()
    return project


def test_served_models_are_the_exported_ones_with_the_aliases_that_a_server_can_answer(digits):
    assert served_models(digits) == [Served("by_hand", (7,), {}), Served("digits", (3, 2, 1), {"champion": 3})]


def read(text):
    return text_format.Parse(text, ModelServerConfig()).model_config_list.config


def test_labels_keep_the_versions_they_need_and_one_to_move_to():
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


def test_what_is_written_is_read_again():
    configs = [
        ModelConfig("a", Path("/a"), VersionPolicy(latest=3), {"champion": 9}),
        ModelConfig("b", Path("/b"), VersionPolicy(specific=(2, 5))),
        ModelConfig("c", Path("/c"), VersionPolicy()),
        ModelConfig("d", Path("/d")),
    ]
    assert read_model_config(model_config_text(configs)) == configs
    assert read_model_config(model_config_text([])) == []


def test_the_text_is_read_by_tensorflow_servings_own_message():
    theirs = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    text = model_config_text(model_configs([Served("a", (9, 5), {"champion": 9})]))
    config = text_format.Parse(text, theirs.ModelServerConfig()).model_config_list.config[0]
    assert config.model_version_policy.latest.num_versions == 2 and config.version_labels["champion"] == 9


def test_the_live_file_follows_promote(digits):
    path = write_model_config(digits)
    assert {entry.name: dict(entry.version_labels) for entry in read(path.read_text())} == {
        "by_hand": {},
        "digits": {"champion": 3},
    }
    promote(digits, "digits", "2")
    assert {entry.name: dict(entry.version_labels) for entry in read(path.read_text())}["digits"] == {"champion": 2}


def test_an_unchanged_file_is_left_alone(digits):
    path = write_model_config(digits)
    before = path.stat().st_mtime_ns
    assert write_model_config(digits) == path
    assert path.stat().st_mtime_ns == before


def test_a_file_of_somebody_else_is_kept(digits):
    (digits.saved_models / "models.config").write_text("model_config_list {}")
    path = write_model_config(digits)
    assert read(path.read_text())
    assert path.with_name("models.config.before").read_text() == "model_config_list {}"


def test_the_labels_move_before_what_is_above_the_champion_goes(digits, monkeypatch):
    """Who asks for a label in between still finds its version."""
    write_model_config(digits)
    mlflow.MlflowClient().set_registered_model_alias("digits", "champion", "2")
    real, seen = configuration.withdraw_above, []

    def withdraw(folder, name, champion):
        entries = {entry.name: entry for entry in read((folder / "models.config").read_text())}
        seen.append(dict(entries[name].version_labels))
        assert (folder / name / "3").exists()
        real(folder, name, champion)

    monkeypatch.setattr(configuration, "withdraw_above", withdraw)
    assert configuration.show_champion(digits, "digits", 2)
    assert seen == [{"champion": 2}]
    assert not (digits.saved_models / "digits" / "3").exists()


def test_a_file_that_cannot_be_written_is_told(digits):
    (digits.saved_models / "models.config").mkdir()
    with pytest.raises(UserError, match="cannot write .*models.config: .*keras-dl promote writes it again"):
        write_model_config(digits)


def test_batching_waits_for_nobody_and_pads_nothing():
    parameters = text_format.Parse(batching_parameters(), BatchingParameters())
    assert parameters.HasField("batch_timeout_micros") and parameters.batch_timeout_micros.value == 0
    assert not parameters.pad_variable_length_inputs
    assert parameters.max_batch_size.value > 1 and parameters.num_batch_threads.value >= 1


def test_monitoring_is_on():
    assert text_format.Parse(monitoring_config(), MonitoringConfig()).prometheus_config.enable
