"""Sources of the served models: exports with the labels of the live file, or a models.config."""

import os
from pathlib import Path

import pytest

from keras_dl.errors import UserError
from keras_dl.serving.configuration import model_config_text
from keras_dl.serving.server.config import ModelConfig, VersionPolicy
from keras_dl.serving.server.source import ConfigFile, SavedModels


@pytest.fixture
def folder(tmp_path):
    """saved_models/ with two exported models, one without an export, and a file."""
    for path in ("digits/1", "digits/2", "speech/7", "empty"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "README.md").write_text("")
    return tmp_path


def test_all_exported_models_are_served_including_later_ones(folder):
    source = SavedModels(folder)
    assert source.read() == [ModelConfig("digits", folder / "digits"), ModelConfig("speech", folder / "speech")]
    (folder / "empty" / "1").mkdir()
    assert [config.name for config in source.read()] == ["digits", "empty", "speech"]


def test_names_that_are_not_utf8_are_ignored(folder):
    os.makedirs(os.fsencode(folder) + b"/mod\xe8le/1")
    (folder / "modèle" / "1").mkdir(parents=True)
    assert [config.name for config in SavedModels(folder).read()] == ["digits", "modèle", "speech"]


def test_a_named_model_may_be_exported_later(folder):
    assert SavedModels(folder, ["empty"]).read() == [ModelConfig("empty", folder / "empty")]


def test_versions_and_labels_come_from_the_live_file(folder):
    live = ModelConfig("digits", Path("/models/digits"), VersionPolicy(latest=2), {"champion": 2, "challenger": 1})
    (folder / "models.config").write_text(model_config_text([live, ModelConfig("gone", Path("/models/gone"))]))
    digits, speech = SavedModels(folder).read()
    assert digits == ModelConfig("digits", folder / "digits", live.policy, live.labels)
    assert speech == ModelConfig("speech", folder / "speech")


def test_names_are_never_used_as_paths(folder):
    for name in ("other", "../digits", "digits/1", "README.md", ""):
        with pytest.raises(UserError, match=f"no model '{name}' in .*. Available: digits, empty, speech"):
            SavedModels(folder, [name]).read()


def test_the_error_without_models_names_the_next_command(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match="keras-dl tune pipelines/"):
            SavedModels(folder).read()


def test_the_users_own_models_config(tmp_path):
    file = tmp_path / "models.config"
    configs = [ModelConfig("x", Path("/some/where"), VersionPolicy(specific=(3, 4)), {"stable": 3})]
    file.write_text(model_config_text(configs))
    assert ConfigFile(file).read() == configs


@pytest.mark.parametrize(
    "content, match",
    [
        (None, "cannot read .*models.config: No such file"),
        (b"\xff\xfe", "cannot read .*models.config: .*utf-8"),
        (b"model_config_list { config { nmae: 'x' } }", "1:30"),
    ],
)
def test_an_unreadable_models_config_is_rejected(tmp_path, content, match):
    file = tmp_path / "models.config"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=match):
        ConfigFile(file).read()
