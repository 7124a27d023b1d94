"""Atomic creation of version folders: failures, kills, concurrent exports, and leftover folders."""

import errno
import fcntl
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from keras_dl.errors import UserError
from keras_dl.serving.export import staging
from keras_dl.serving.export.staging import check_free, check_writable, staged

FILES = 3


def write(folder, text):
    (folder / "variables").mkdir()
    for number in range(FILES):
        (folder / "variables" / f"{number}").write_text(text)
    (folder / "saved_model.pb").write_text(text)


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def is_complete(folder):
    return len(content(folder)) == FILES + 1 and len(set(content(folder).values())) == 1


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_version_appears_at_the_end(tmp_path):
    with staged(tmp_path, "m", 3) as folder:
        write(folder, "x")
        assert folder.parent == tmp_path / "m"
        assert names(tmp_path / "m") == [folder.name]
        assert folder.name.startswith(".tmp-export-3-")
    assert names(tmp_path / "m") == ["3"]
    assert is_complete(tmp_path / "m" / "3")


def test_other_users_may_read_it(tmp_path):
    """A server may run as another user."""
    (tmp_path / "made").mkdir()
    with staged(tmp_path, "m", 3):
        pass
    assert (tmp_path / "m" / "3").stat().st_mode == (tmp_path / "made").stat().st_mode


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, UserError])
def test_a_failure_leaves_no_files(tmp_path, error):
    with pytest.raises(error), staged(tmp_path, "m", 3) as folder:
        write(folder, "x")
        raise error()
    assert names(tmp_path / "m") == []


def test_everything_is_synced_before_the_rename(tmp_path, monkeypatch):
    synced, real = [], os.fsync

    def fsync(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with staged(tmp_path, "m", 3) as folder:
        write(folder, "x")
        expected = {str(path) for path in folder.rglob("*")} | {str(folder)}
    assert expected <= set(synced)
    assert {str(tmp_path), str(tmp_path / "m")} <= set(synced)  # the entries of the model and of the version


def test_an_existing_version_is_kept(tmp_path):
    (tmp_path / "m" / "3").mkdir(parents=True)
    with pytest.raises(UserError, match="m/3 already exists"), staged(tmp_path, "m", 3):
        pass
    (tmp_path / "m" / ".withdrawn-4").mkdir()
    with pytest.raises(UserError, match="m version 4 is already exported, but withdrawn"):
        check_free(tmp_path, "m", 4)
    (tmp_path / "m" / "5").symlink_to("nowhere")
    with pytest.raises(UserError, match="m/5 already exists"):
        check_free(tmp_path, "m", 5)


def test_the_first_of_two_exports_of_a_version_wins(tmp_path):
    with pytest.raises(UserError, match="m/3 already exists"), staged(tmp_path, "m", 3) as slow:
        write(slow, "slow")
        with staged(tmp_path, "m", 3) as fast:
            assert fast != slow
            write(fast, "fast")
    assert names(tmp_path / "m") == ["3"]
    assert set(content(tmp_path / "m" / "3").values()) == {"fast"}


def test_a_version_created_between_the_check_and_the_rename(tmp_path, monkeypatch):
    """The operating system refuses to replace a folder that is not empty."""

    def rename(source, target):
        target.mkdir()
        write(target, "first")
        os.rename(source, target)

    monkeypatch.setattr(staging, "rename", rename)
    with pytest.raises(UserError, match="m/3 already exists"), staged(tmp_path, "m", 3) as folder:
        write(folder, "second")
    assert names(tmp_path / "m") == ["3"]
    assert set(content(tmp_path / "m" / "3").values()) == {"first"}


def test_concurrent_exports_do_not_collide(tmp_path):
    outcome = {}

    def export(worker, version):
        try:
            with staged(tmp_path, "m", version) as folder:
                write(folder, f"{worker}")
            outcome[worker] = "done"
        except UserError as error:
            outcome[worker] = str(error)

    # Eight threads write different versions, and eight write version 100.
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(export, range(16), [*range(8), *[100] * 8]))
    assert [outcome[n] for n in range(8)] == ["done"] * 8
    same = [outcome[n] for n in range(8, 16)]
    assert same.count("done") == 1
    assert sum("already exists" in text for text in same) == 7
    assert names(tmp_path / "m") == sorted(map(str, [*range(8), 100]))
    assert all(is_complete(path) for path in (tmp_path / "m").iterdir())


def test_leftovers_are_removed_unless_they_are_still_written(tmp_path):
    (tmp_path / "m" / ".tmp-export-1-dead" / "variables").mkdir(parents=True)
    (tmp_path / "m" / ".tmp-retired-1").mkdir()  # not an export
    (tmp_path / "m" / ".tmp-export-file").touch()
    with staged(tmp_path, "m", 3) as living, staged(tmp_path, "m", 4):
        assert living.is_dir()
        assert not (tmp_path / "m" / ".tmp-export-1-dead").exists()
    assert names(tmp_path / "m") == [".tmp-export-file", ".tmp-retired-1", "3", "4"]


def test_an_error_of_the_rename_leaves_no_files(tmp_path, monkeypatch):
    def rename(source, target):
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(staging, "rename", rename)
    with pytest.raises(OSError, match="input/output error"), staged(tmp_path, "m", 3) as folder:
        write(folder, "x")
    assert names(tmp_path / "m") == []


def test_a_folder_removed_before_it_is_opened(tmp_path, monkeypatch):
    real, removed = os.open, []

    def open_(path, *arguments, **keywords):
        if not removed and ".tmp-export-" in str(path):
            removed.append(str(path))
            os.rmdir(path)
        return real(path, *arguments, **keywords)

    monkeypatch.setattr(os, "open", open_)
    with staged(tmp_path, "m", 3) as folder:
        assert str(folder) != removed[0]
        write(folder, "x")
    assert names(tmp_path / "m") == ["3"]


def test_a_folder_removed_before_it_is_locked(tmp_path, monkeypatch):
    """Another export may remove a folder between its creation and its lock; then a new one is created."""
    real, removed = fcntl.flock, []

    def flock(lock, how):
        if not removed:
            removed.append(os.readlink(f"/proc/self/fd/{lock}"))
            os.rmdir(removed[0])
        real(lock, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with staged(tmp_path, "m", 3) as folder:
        assert str(folder) != removed[0]
        write(folder, "x")
    assert names(tmp_path / "m") == ["3"]


def kill_this_process_at(step):
    """Kills the process before its operation number `step` on the file system."""
    events = ("open", "os.mkdir", "os.rename", "os.rmdir", "shutil.rmtree")
    count = 0

    def hook(event, arguments):
        nonlocal count
        if event in events:
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

    sys.addaudithook(hook)


def test_a_kill_at_any_step_leaves_only_complete_versions(tmp_path):
    """Forked children write small files; test_export_kills.py kills real exports."""
    before, killed, step = {}, True, 0
    while killed:
        pid = os.fork()
        if not pid:
            try:
                kill_this_process_at(step)
                with staged(tmp_path, "m", step) as folder:
                    write(folder, f"{step}")
                os._exit(0)
            finally:
                os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in (0, -signal.SIGKILL)
        killed = code != 0
        folders = (tmp_path / "m").iterdir() if (tmp_path / "m").exists() else ()
        versions = {path.name: content(path) for path in folders if path.name.isdigit()}
        assert all(is_complete(tmp_path / "m" / name) for name in versions)
        assert before.items() <= versions.items()
        before, step = versions, step + 1
    assert step > 2 * FILES  # each file was opened to write and to sync
    assert len(versions) > 1  # also killed after the rename
    assert not list((tmp_path / "m").glob(".tmp-*"))


def test_check_writable_creates_an_empty_folder(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert names(tmp_path / "a" / "b") == []
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=f"cannot write to {folder}: "):
            check_writable(folder)
    with pytest.raises(UserError, match="cannot write to /proc/nowhere: "):
        check_writable(type(tmp_path)("/proc/nowhere"))
