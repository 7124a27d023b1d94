"""The files of a search: written whole or not at all, and read again."""

import contextlib
import json
import os

import keras_tuner as kt
import keras_tuner.src.utils as kt_utils
import pytest

from keras_dl.tuning.oracles import make_oracle
from keras_dl.tuning.tuner import write_json


@pytest.fixture(scope="module")
def largest_file():
    """largest_file(n): a context in which no file of this process can grow beyond n bytes."""
    resource = pytest.importorskip("resource")

    @contextlib.contextmanager
    def limit(size):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit


def test_what_is_written_is_there(tmp_path):
    file = tmp_path / "state.json"
    assert json.loads(write_json(file, {"trials": [1, 2]})) == {"trials": [1, 2]}
    write_json(str(file), {"trials": [1, 2, 3]})
    assert json.loads(file.read_text()) == {"trials": [1, 2, 3]}
    assert os.listdir(tmp_path) == ["state.json"]


def test_what_cannot_be_written_as_json_leaves_the_old_file(tmp_path):
    file = tmp_path / "state.json"
    write_json(file, {"trials": 1})
    with pytest.raises(TypeError):
        write_json(file, {"trials": object()})
    assert json.loads(file.read_text()) == {"trials": 1}
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_full_disk_leaves_the_old_file(tmp_path, largest_file):
    file = tmp_path / "state.json"
    write_json(file, {"trials": 1})
    with largest_file(1000), pytest.raises(OSError):
        write_json(file, {"trials": "x" * 5000})
    assert json.loads(file.read_text()) == {"trials": 1}


def test_a_kill_while_writing_leaves_the_old_file(tmp_path):
    """In a process that dies, without any clean-up, at the moment when the new content is on disk."""
    file = tmp_path / "state.json"
    write_json(file, {"trials": 1})
    child = os.fork()
    if child == 0:
        os.fsync = lambda descriptor: os._exit(3)
        write_json(file, {"trials": 2})
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert json.loads(file.read_text()) == {"trials": 1}


def test_keras_tuner_writes_its_state_that_way(tmp_path, largest_file):
    assert kt_utils.save_json is write_json
    oracle = make_oracle("random", kt.Objective("val_loss", "min"), 5, 2, 0, kt.HyperParameters())
    oracle._set_project_dir(tmp_path, "trials")
    oracle.verbose = 0
    oracle.create_trial("tuner0")
    file = tmp_path / "trials" / "oracle.json"
    before = file.read_text()
    with largest_file(100), pytest.raises(OSError):
        oracle.save()
    assert file.read_text() == before and json.loads(before)["start_order"] == ["0"]
