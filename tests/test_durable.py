"""Files are written atomically."""

import errno
import json
import os

import keras_tuner.src.utils as kt_utils
import pytest

import keras_dl.compat.keras_tuner  # noqa: F401  patches save_json
from keras_dl.durable import check_space, exhausted, write_bytes, write_json
from keras_dl.errors import UserError


@pytest.fixture
def file(tmp_path):
    """An existing file, the only one in its folder."""
    write_json(tmp_path / "state.json", {"trials": 1})
    return tmp_path / "state.json"


def assert_untouched(file):
    assert json.loads(file.read_text()) == {"trials": 1}
    assert os.listdir(file.parent) == ["state.json"]


def test_written_content_can_be_read(file):
    assert json.loads(write_json(file, {"trials": [1, 2]})) == {"trials": [1, 2]}
    write_json(str(file), {"trials": [1, 2, 3]})
    assert json.loads(file.read_text()) == {"trials": [1, 2, 3]}
    write_bytes(file, b"\x00\xff")
    assert file.read_bytes() == b"\x00\xff"
    assert os.listdir(file.parent) == ["state.json"]


def test_content_that_json_cannot_represent_leaves_the_old_file(file):
    with pytest.raises(TypeError):
        write_json(file, {"trials": object()})
    assert_untouched(file)


def test_a_full_disk_leaves_the_old_file(file, largest_file):
    with largest_file(1000), pytest.raises(OSError):
        write_json(file, {"trials": "x" * 5000})
    assert_untouched(file)


def test_a_failing_disk_leaves_the_old_file(file, monkeypatch):
    def broken(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        write_bytes(file, b"new")
    assert_untouched(file)


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_bytes(tmp_path / "nowhere" / "state.json", b"new")


def test_the_new_content_is_on_disk_before_the_old_file_is_replaced(file, monkeypatch):
    events = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *given, name=name, real=real: (events.append(name), real(*given)))
    write_bytes(file, b"new")
    assert events == ["fsync", "replace"]


def test_a_kill_while_writing_leaves_the_old_file(file):
    # The child exits without any clean-up before the new content is on disk.
    child = os.fork()
    if child == 0:
        os.fsync = lambda descriptor: os._exit(3)
        write_json(file, {"trials": 2})
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert json.loads(file.read_text()) == {"trials": 1}
    # Its temporary file does not prevent later writes.
    write_json(file, {"trials": 3})
    assert json.loads(file.read_text()) == {"trials": 3}


def test_keras_tuner_writes_its_state_atomically():
    assert kt_utils.save_json is write_json


def test_too_little_space_is_reported_with_the_free_space(tmp_path):
    check_space(tmp_path, 1)
    with pytest.raises(UserError, match=r"has \d+ MB left; expected at least 1000000000000 MB$"):
        check_space(tmp_path, 10**18)


@pytest.mark.parametrize(
    ("error", "description"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "the disk quota is used up"),
        (OSError(errno.EROFS, "Read-only file system"), "read-only"),
        (OSError(errno.EIO, "Input/output error"), None),
        (FileNotFoundError(errno.ENOENT, "No such file"), None),
        (ValueError(errno.ENOSPC), None),
    ],
)
def test_exhausted_describes_the_resource(error, description):
    assert exhausted(error) == description
