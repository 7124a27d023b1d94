"""A version's folder is whole or not there: failures, kills, two exports at once, and what killed ones left."""

import fcntl
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from keras_dl.errors import UserError
from keras_dl.serving.export.staging import check_free, check_writable, staged

FILES = 20


def write(folder, what):
    (folder / "variables").mkdir()
    for number in range(FILES):
        (folder / "variables" / f"{number}").write_text(what)
    (folder / "saved_model.pb").write_text(what)


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def is_whole(folder):
    return len(content(folder)) == FILES + 1 and len(set(content(folder).values())) == 1


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_it_is_not_there_before_the_end(tmp_path):
    with staged(tmp_path, "m", 3) as folder:
        write(folder, "x")
        assert folder.parent == tmp_path / "m"
        assert names(tmp_path / "m") == [folder.name]
        assert folder.name.startswith(".tmp-export-3-")
    assert names(tmp_path / "m") == ["3"]
    assert is_whole(tmp_path / "m" / "3")


def test_others_may_read_it(tmp_path):
    """A server may run as somebody else."""
    (tmp_path / "made").mkdir()
    with staged(tmp_path, "m", 3):
        pass
    assert (tmp_path / "m" / "3").stat().st_mode == (tmp_path / "made").stat().st_mode


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, UserError])
def test_a_failure_leaves_nothing(tmp_path, error):
    with pytest.raises(error), staged(tmp_path, "m", 3) as folder:
        write(folder, "x")
        raise error()
    assert names(tmp_path / "m") == []


def test_all_is_on_the_disk_before_the_rename(tmp_path, monkeypatch):
    synced, real = [], os.fsync

    def fsync(descriptor):
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with staged(tmp_path, "m", 3) as folder:
        write(folder, "x")
        wanted = {str(path) for path in folder.rglob("*")} | {str(folder)}
    assert wanted <= set(synced)
    assert {str(tmp_path), str(tmp_path / "m")} <= set(synced)  # the name of the model, and that of the version


def test_a_version_that_is_there_stays(tmp_path):
    (tmp_path / "m" / "3").mkdir(parents=True)
    with pytest.raises(UserError, match="m/3 is there already"), staged(tmp_path, "m", 3):
        pass
    (tmp_path / "m" / ".withdrawn-4").mkdir()
    with pytest.raises(UserError, match="m version 4 is exported, but withdrawn"):
        check_free(tmp_path, "m", 4)
    (tmp_path / "m" / "5").symlink_to("nowhere")
    with pytest.raises(UserError, match="m/5 is there already"):
        check_free(tmp_path, "m", 5)


def test_of_two_exports_of_one_version_the_first_wins(tmp_path):
    with pytest.raises(UserError, match="m/3 is there already"), staged(tmp_path, "m", 3) as slow:
        write(slow, "slow")
        with staged(tmp_path, "m", 3) as fast:
            assert fast != slow
            write(fast, "fast")
    assert names(tmp_path / "m") == ["3"]
    assert set(content(tmp_path / "m" / "3").values()) == {"fast"}


def test_one_that_comes_between_the_look_and_the_rename(tmp_path, monkeypatch):
    """The operating system itself refuses to put a folder in the place of one that holds something."""
    from keras_dl.serving.export import staging

    def rename(source, target):
        target.mkdir()
        write(target, "first")
        os.rename(source, target)

    monkeypatch.setattr(staging, "rename", rename)
    with pytest.raises(UserError, match="m/3 is there already"), staged(tmp_path, "m", 3) as folder:
        write(folder, "second")
    assert names(tmp_path / "m") == ["3"]
    assert set(content(tmp_path / "m" / "3").values()) == {"first"}


def test_threads_that_export_at_once_do_not_collide(tmp_path):
    outcome = {}

    def export(worker, version):
        try:
            with staged(tmp_path, "m", version) as folder:
                write(folder, f"{worker}")
            outcome[worker] = "done"
        except UserError as error:
            outcome[worker] = str(error)

    # Eight versions of their own, and eight threads that all want version 100.
    threads = [threading.Thread(target=export, args=(n, n if n < 8 else 100)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [outcome[n] for n in range(8)] == ["done"] * 8
    same = [outcome[n] for n in range(8, 16)]
    assert same.count("done") == 1
    assert sum("is there already" in text for text in same) == 7
    assert names(tmp_path / "m") == sorted(map(str, [*range(8), 100]))
    assert all(is_whole(path) for path in (tmp_path / "m").iterdir())


def test_what_a_killed_export_left_is_removed_and_what_one_still_writes_is_not(tmp_path):
    (tmp_path / "m" / ".tmp-export-1-dead" / "variables").mkdir(parents=True)
    (tmp_path / "m" / ".tmp-retired-1").mkdir()  # of others
    (tmp_path / "m" / ".tmp-export-file").touch()
    with staged(tmp_path, "m", 3) as living, staged(tmp_path, "m", 4):
        assert living.is_dir()
        assert not (tmp_path / "m" / ".tmp-export-1-dead").exists()
    assert names(tmp_path / "m") == [".tmp-export-file", ".tmp-retired-1", "3", "4"]


def test_a_folder_that_is_taken_for_a_leftover_before_it_is_locked(tmp_path, monkeypatch):
    """Between making and locking it, another export may remove it: then another one is made."""
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


WRITER = """
import pathlib, sys
from keras_dl.serving.export.staging import staged
root, version = pathlib.Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
while True:
    with staged(root, "m", version) as folder:
        (folder / "variables").mkdir()
        for number in range(20):
            (folder / "variables" / f"{number}").write_text(f"{version}")
        (folder / "saved_model.pb").write_text(f"{version}")
    version += 1
"""


def test_kills_at_any_moment_leave_whole_versions_only(tmp_path):
    """A real process and real kills; those of real exports, which take minutes, are in test_export_kills.py."""
    draw, whole = random.Random(0), {}
    for _ in range(5):
        first = max(map(int, whole), default=0) + 1
        process = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, str(first)], stdout=subprocess.PIPE)
        with process:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(draw.uniform(0.05, 0.4))
            process.send_signal(signal.SIGKILL)
        versions = {path.name: content(path) for path in (tmp_path / "m").iterdir() if path.name.isdigit()}
        assert all(is_whole(tmp_path / "m" / name) for name in versions)
        assert whole.items() <= versions.items()  # no old one is lost or changed
        whole = versions
    assert len(whole) > 5
    with staged(tmp_path, "m", 1000):
        pass
    assert not list((tmp_path / "m").glob(".tmp-*"))


def test_check_writable_makes_the_folder_and_leaves_it_empty(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert names(tmp_path / "a" / "b") == []
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=f"cannot write to {folder}: "):
            check_writable(folder)
    with pytest.raises(UserError, match="cannot write to /proc/nowhere: "):
        check_writable(type(tmp_path)("/proc/nowhere"))
