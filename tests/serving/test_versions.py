"""The versions in saved_models/, and those visible to a server."""

import pytest

from keras_dl.serving import versions
from keras_dl.serving.server.config import ModelConfig, VersionPolicy
from keras_dl.serving.server.folders import wanted_versions
from keras_dl.serving.versions import bring_back, exported_versions, withdraw_above, withdrawn_versions


def export(folder, *names):
    for name in names:
        (folder / "digits" / name).mkdir(parents=True)
        (folder / "digits" / name / "saved_model.pb").write_text(name.removeprefix(".withdrawn-"))


def state(folder):
    """Returns the visible and the withdrawn versions, and checks their content."""
    for version in exported_versions(folder, "digits"):
        assert (folder / "digits" / str(version) / "saved_model.pb").read_text() == str(version)
    for version in withdrawn_versions(folder, "digits"):
        assert (folder / "digits" / f".withdrawn-{version}" / "saved_model.pb").read_text() == str(version)
    return exported_versions(folder, "digits"), withdrawn_versions(folder, "digits")


def test_versions_are_numbers_newest_first(tmp_path):
    export(tmp_path, "2", "10", "9", ".withdrawn-11", ".withdrawn-3")
    (tmp_path / "speech" / "1").mkdir(parents=True)
    assert exported_versions(tmp_path, "digits") == [10, 9, 2]
    assert withdrawn_versions(tmp_path, "digits") == [11, 3]


def test_other_folders_are_not_versions(tmp_path):
    for name in (".tmp-3-99", "old", "-1", "²", ".withdrawn-", ".withdrawn-x", ".withdrawn-²"):
        (tmp_path / "digits" / name).mkdir(parents=True)
    (tmp_path / "digits" / "4").touch()
    assert exported_versions(tmp_path, "digits") == []
    assert withdrawn_versions(tmp_path, "digits") == []


def test_a_missing_model_or_folder_has_no_versions(tmp_path):
    (tmp_path / "file").touch()
    assert exported_versions(tmp_path, "digits") == []
    assert exported_versions(tmp_path / "nowhere", "digits") == []
    assert exported_versions(tmp_path, "file") == []


def show_champion(folder, name, champion):
    """Runs both steps, as `served_models.show_champion` does."""
    shown = bring_back(folder, name, champion)
    if shown:
        withdraw_above(folder, name, champion)
    return shown


@pytest.mark.parametrize(
    "before, champion, shown, withdrawn",
    [
        (["1", "2", "3"], 3, [3, 2, 1], []),
        (["1", "2", "3"], 2, [2, 1], [3]),
        (["1", "2", "3", "10"], 1, [1], [10, 3, 2]),
        (["1", ".withdrawn-2", ".withdrawn-3"], 2, [2, 1], [3]),
        ([".withdrawn-1", ".withdrawn-2", ".withdrawn-3"], 3, [3, 2, 1], []),
        ([".withdrawn-2", "5"], 2, [2], [5]),
    ],
)
def test_the_champion_is_the_highest_visible_version(tmp_path, before, champion, shown, withdrawn):
    export(tmp_path, *before)
    for _ in range(2):  # a second time changes nothing
        assert show_champion(tmp_path, "digits", champion)
        assert state(tmp_path) == (shown, withdrawn)
        assert list(wanted_versions(ModelConfig("digits", tmp_path / "digits", VersionPolicy()))) == shown


def test_nothing_is_withdrawn_without_the_champions_export(tmp_path):
    export(tmp_path, "1", "3", ".withdrawn-4")
    assert not show_champion(tmp_path, "digits", 2)
    assert state(tmp_path) == ([3, 1], [4])


@pytest.mark.parametrize("steps", range(4))
@pytest.mark.parametrize("champion", [2, 4])
def test_an_interruption_leaves_a_visible_version_and_can_be_resumed(tmp_path, monkeypatch, steps, champion):
    export(tmp_path, ".withdrawn-1", ".withdrawn-2", "3", "4", "5")
    real, remaining = versions.rename, [steps]

    def rename(source, target):
        if not remaining[0]:
            raise KeyboardInterrupt
        remaining[0] -= 1
        real(source, target)
        highest = exported_versions(tmp_path, "digits")[0]
        assert highest in (5, champion)  # either the old one or the new one

    monkeypatch.setattr(versions, "rename", rename)
    try:
        show_champion(tmp_path, "digits", champion)
    except KeyboardInterrupt:
        assert sum(map(len, state(tmp_path))) == 5
    monkeypatch.setattr(versions, "rename", real)
    assert show_champion(tmp_path, "digits", champion)
    assert state(tmp_path) == (([2, 1], [5, 4, 3]) if champion == 2 else ([4, 3, 2, 1], [5]))
