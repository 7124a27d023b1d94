"""`retire` keeps the newest exports and the champion's."""

import mlflow
import pytest

from keras_dl.errors import UserError
from keras_dl.release.publish import retire
from keras_dl.serving.versions import exported_versions, withdrawn_versions
from keras_dl.tracking.runs import connect


@pytest.fixture
def exported(project):
    """Versions 1 to 5 of digits: 3 is the champion, 4 and 5 are withdrawn."""
    connect(project)
    client = mlflow.MlflowClient()
    client.create_registered_model("digits")
    for version in range(1, 6):
        client.create_model_version("digits", "nowhere")
        name = str(version) if version <= 3 else f".withdrawn-{version}"
        (project.saved_models / "digits" / name / "variables").mkdir(parents=True)
        (project.saved_models / "digits" / name / "saved_model.pb").write_text(str(version))
    client.set_registered_model_alias("digits", "champion", "3")
    return project


def remaining(settings):
    folder = settings.saved_models
    assert not list((folder / "digits").glob(".tmp-*"))
    return exported_versions(folder, "digits"), withdrawn_versions(folder, "digits")


@pytest.mark.parametrize(
    "keep, removed, shown, withdrawn",
    [
        (1, [4, 2, 1], [3], [5]),
        (2, [2, 1], [3], [5, 4]),
        (4, [1], [3, 2], [5, 4]),
        (5, [], [3, 2, 1], [5, 4]),
        (9, [], [3, 2, 1], [5, 4]),
    ],
)
def test_the_newest_exports_and_the_champion_are_kept(exported, capsys, keep, removed, shown, withdrawn):
    assert retire(exported, "digits", keep) == removed
    assert remaining(exported) == (shown, withdrawn)
    text = ", ".join(map(str, removed))
    message = f"removed the exports of digits {text}; they remain in the registry\n" if removed else ""
    assert capsys.readouterr().out == message
    assert retire(exported, "digits", keep) == []


def test_without_a_champion_the_newest_exports_are_kept(exported):
    mlflow.MlflowClient().delete_registered_model_alias("digits", "champion")
    assert retire(exported, "digits", 2) == [3, 2, 1]


def test_an_interrupted_removal_does_not_prevent_later_ones(exported):
    (exported.saved_models / "digits" / ".tmp-retired-1" / "variables").mkdir(parents=True)
    assert retire(exported, "digits", 4) == [1]
    assert remaining(exported) == ([3, 2], [5, 4])


def test_nothing_is_removed_if_the_store_fails(exported, monkeypatch):
    def fail(*_):
        raise mlflow.MlflowException("disk I/O error")

    monkeypatch.setattr(mlflow.MlflowClient, "get_model_version_by_alias", fail)
    with pytest.raises(mlflow.MlflowException):
        retire(exported, "digits", 1)
    assert remaining(exported) == ([3, 2, 1], [5, 4])


def test_keeping_no_export_is_rejected(exported):
    with pytest.raises(UserError, match="at least 1 export of digits. Received: 0"):
        retire(exported, "digits", 0)
    assert retire(exported, "speech", 1) == []
