"""`saved_models/models.config` follows the exports and the registry's aliases."""

import json
import shutil

import mlflow
import pytest
from google.protobuf import text_format

from keras_dl.errors import UserError
from keras_dl.release import served_models as served_models_module
from keras_dl.release.champion import promote
from keras_dl.release.served_models import served_models, show_champion, write_model_config
from keras_dl.serving.configuration import Served
from keras_dl.serving.messages import ModelServerConfig
from keras_dl.serving.versions import MANIFEST, exported_versions, run_of, withdrawn_versions
from keras_dl.tracking.runs import connect

from .versions import register


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


@pytest.fixture
def begun_anew(project, empty_store, capsys):
    """A project with a new store, and versions 1 to 3 of an earlier one: 2 is served and 3 withdrawn."""
    connect(project, "digits")
    for value in (0.5, 0.4, 0.3):
        version = register(project, "digits", value).version
        export(project, version)
    promote(project, "digits", "2")
    shutil.copy(empty_store, project.root / "new.db")
    tracking = project.tracking.model_copy(update={"uri": "sqlite:///new.db"})
    project = project.model_copy(update={"tracking": tracking})
    connect(project, "digits")
    capsys.readouterr()
    return project


def export(project, version):
    """Creates the export of a registered version, with its origin only."""
    file = project.saved_models / "digits" / str(version) / MANIFEST
    file.parent.mkdir(parents=True)
    run_id = mlflow.MlflowClient().get_model_version("digits", str(version)).run_id
    file.write_text(json.dumps({"origin": {"run_id": run_id}}))


def numbers(project):
    return [find(project.saved_models, "digits") for find in (exported_versions, withdrawn_versions)]


def test_an_export_of_another_store_is_never_taken_for_a_version_of_this_one(begun_anew, capsys):
    old = {number: run_of(begun_anew.saved_models / "digits" / number) for number in ("1", "2", ".withdrawn-3")}
    register(begun_anew, "digits", 0.6)
    assert not show_champion(begun_anew, "digits", 1)
    assert numbers(begun_anew) == [[], []]
    output = capsys.readouterr().out
    for number, run in old.items():
        assert f"digits/{number} comes from run {run} from another store: moved to .other-" in output
    export(begun_anew, 1)
    assert show_champion(begun_anew, "digits", 1)
    assert numbers(begun_anew) == [[1], []]
    register(begun_anew, "digits", 0.1)  # version 2, whose number was served before
    assert not show_champion(begun_anew, "digits", 2)
    assert numbers(begun_anew) == [[1], []]


def test_exports_come_back_with_their_store(begun_anew, project):
    register(begun_anew, "digits", 0.6)
    show_champion(begun_anew, "digits", 1)
    promote(project, "digits", "2")
    assert numbers(project) == [[2, 1], [3]]


def test_an_export_without_an_origin_is_not_taken_for_a_registered_version(project, capsys):
    connect(project, "digits")
    (project.saved_models / "digits" / "1").mkdir(parents=True)
    (project.saved_models / "digits" / "7").mkdir()  # not by keras-dl, and not the number of a registered version
    register(project, "digits", 0.6)
    show_champion(project, "digits", 1)
    assert numbers(project) == [[7], []]
    assert "digits/1 comes from an unknown run: moved to .other-1-unknown" in capsys.readouterr().out


def test_the_export_of_a_version_that_was_deleted_stays(project):
    connect(project, "digits")
    for value in (0.5, 0.4):
        export(project, register(project, "digits", value).version)
    mlflow.MlflowClient().delete_model_version("digits", "1")
    assert show_champion(project, "digits", 2)
    assert numbers(project) == [[2, 1], []]
