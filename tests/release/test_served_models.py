"""`saved_models/models.config` follows the exports and the registry's aliases."""

import mlflow
import pytest
from google.protobuf import text_format

from keras_dl.errors import UserError
from keras_dl.release import served_models as served_models_module
from keras_dl.release.champion import promote
from keras_dl.release.served_models import served_models, show_champion, write_model_config
from keras_dl.serving.configuration import Served
from keras_dl.serving.messages import ModelServerConfig
from keras_dl.tracking.runs import connect


def read(text):
    return text_format.Parse(text, ModelServerConfig()).model_config_list.config


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


def test_served_models_are_the_exported_ones_with_their_aliases(digits):
    assert served_models(digits) == [Served("by_hand", (7,), {}), Served("digits", (3, 2, 1), {"champion": 3})]


def test_the_file_follows_promote(digits):
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


def test_a_file_of_another_program_is_kept(digits):
    (digits.saved_models / "models.config").write_text("model_config_list {}")
    path = write_model_config(digits)
    assert read(path.read_text())
    assert path.with_name("models.config.before").read_text() == "model_config_list {}"


def test_labels_move_before_higher_versions_are_withdrawn(digits, monkeypatch):
    """A request for a label between the two steps still finds its version."""
    write_model_config(digits)
    mlflow.MlflowClient().set_registered_model_alias("digits", "champion", "2")
    real, seen = served_models_module.withdraw_above, []

    def withdraw(folder, name, champion):
        entries = {entry.name: entry for entry in read((folder / "models.config").read_text())}
        seen.append(dict(entries[name].version_labels))
        assert (folder / name / "3").exists()
        real(folder, name, champion)

    monkeypatch.setattr(served_models_module, "withdraw_above", withdraw)
    assert show_champion(digits, "digits", 2)
    assert seen == [{"champion": 2}]
    assert not (digits.saved_models / "digits" / "3").exists()


def test_a_file_that_cannot_be_written_is_an_error(digits):
    (digits.saved_models / "models.config").mkdir()
    with pytest.raises(UserError, match="cannot write .*models.config: .*keras-dl promote writes the file again"):
        write_model_config(digits)
