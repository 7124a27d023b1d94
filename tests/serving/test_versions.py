"""What lies in saved_models/."""

from keras_dl.serving.versions import exported_versions


def test_versions_are_numbers_newest_first(tmp_path):
    for name in ("2", "10", "9"):
        (tmp_path / "digits" / name).mkdir(parents=True)
    (tmp_path / "speech" / "1").mkdir(parents=True)
    assert exported_versions(tmp_path, "digits") == [10, 9, 2]


def test_what_is_no_version_does_not_count(tmp_path):
    (tmp_path / "digits" / ".tmp-3-99").mkdir(parents=True)
    (tmp_path / "digits" / "old").mkdir()
    (tmp_path / "digits" / "-1").mkdir()
    (tmp_path / "digits" / "4").touch()
    assert exported_versions(tmp_path, "digits") == []


def test_a_model_or_folder_that_is_not_there_has_none(tmp_path):
    (tmp_path / "file").touch()
    assert exported_versions(tmp_path, "digits") == []
    assert exported_versions(tmp_path / "nowhere", "digits") == []
    assert exported_versions(tmp_path, "file") == []
