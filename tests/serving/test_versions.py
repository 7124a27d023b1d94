"""What lies in saved_models/, and what of it a server sees."""

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
    """The versions in sight and the withdrawn ones; each folder holds what was written in it."""
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


def test_what_is_no_version_does_not_count(tmp_path):
    for name in (".tmp-3-99", "old", "-1", "²", ".withdrawn-", ".withdrawn-x", ".withdrawn-²"):
        (tmp_path / "digits" / name).mkdir(parents=True)
    (tmp_path / "digits" / "4").touch()
    assert exported_versions(tmp_path, "digits") == []
    assert withdrawn_versions(tmp_path, "digits") == []


def test_a_model_or_folder_that_is_not_there_has_none(tmp_path):
    (tmp_path / "file").touch()
    assert exported_versions(tmp_path, "digits") == []
    assert exported_versions(tmp_path / "nowhere", "digits") == []
    assert exported_versions(tmp_path, "file") == []


def show_champion(folder, name, champion):
    """Both halves, as `configuration.show_champion` does them."""
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
def test_the_champion_is_the_highest_that_a_server_sees(tmp_path, before, champion, shown, withdrawn):
    export(tmp_path, *before)
    for _ in range(2):  # a second time changes nothing
        assert show_champion(tmp_path, "digits", champion)
        assert state(tmp_path) == (shown, withdrawn)
        assert list(wanted_versions(ModelConfig("digits", tmp_path / "digits", VersionPolicy()))) == shown


def test_without_the_champions_export_nothing_is_withdrawn(tmp_path):
    export(tmp_path, "1", "3", ".withdrawn-4")
    assert not show_champion(tmp_path, "digits", 2)
    assert state(tmp_path) == ([3, 1], [4])


@pytest.mark.parametrize("steps", range(4))
@pytest.mark.parametrize("champion", [2, 4])
def test_stopped_after_any_step_a_server_has_a_version_and_the_same_call_does_the_rest(
    tmp_path, monkeypatch, steps, champion
):
    export(tmp_path, ".withdrawn-1", ".withdrawn-2", "3", "4", "5")
    real, left = versions.rename, [steps]

    def rename(source, target):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(source, target)
        highest = exported_versions(tmp_path, "digits")[0]
        assert highest in (5, champion)  # never one that is neither the old nor the new

    monkeypatch.setattr(versions, "rename", rename)
    try:
        show_champion(tmp_path, "digits", champion)
    except KeyboardInterrupt:
        assert sum(map(len, state(tmp_path))) == 5
    monkeypatch.setattr(versions, "rename", real)
    assert show_champion(tmp_path, "digits", champion)
    assert state(tmp_path) == (([2, 1], [5, 4, 3]) if champion == 2 else ([4, 3, 2, 1], [5]))
