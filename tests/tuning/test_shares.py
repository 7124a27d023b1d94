"""What of the machine each worker gets."""

import pytest

from keras_dl.tuning.shares import gpus, shares

LISTED = """GPU 0: NVIDIA H200 (UUID: GPU-11111111-aaaa)
GPU 1: NVIDIA H200 (UUID: GPU-22222222-bbbb)
"""
PARTS = """GPU 0: NVIDIA H200 (UUID: GPU-11111111-aaaa)
  MIG 1g.18gb     Device  0: (UUID: MIG-33333333-cccc)
  MIG 1g.18gb     Device  1: (UUID: MIG-44444444-dddd)
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """machine(cores, listed): one with so many cores, whose nvidia-smi -L lists that; None has no such command."""
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    def make(cores, listed=None):
        monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)))
        if listed is not None:
            (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n[ \"$1\" = -L ] && printf '%s' '{listed}'\n")
            (tmp_path / "nvidia-smi").chmod(0o755)

    return make


@pytest.mark.parametrize(("cores", "workers", "threads"), [(8, 2, "4"), (8, 3, "2"), (2, 4, "1"), (2, 1, "2")])
def test_cores_are_divided(machine, cores, workers, threads):
    machine(cores)
    assert (
        shares(workers)
        == [{"TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": threads, "OMP_NUM_THREADS": threads}]
        * workers
    )


def test_what_the_user_set_stays(machine, monkeypatch):
    machine(8)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert [share["OMP_NUM_THREADS"] for share in shares(2)] == ["7", "7"]


def test_each_worker_gets_a_gpu_in_turn(machine):
    machine(8, LISTED)
    found = shares(3)
    assert [share["CUDA_VISIBLE_DEVICES"] for share in found] == [
        "GPU-11111111-aaaa",
        "GPU-22222222-bbbb",
        "GPU-11111111-aaaa",
    ]
    assert all(share["TF_FORCE_GPU_ALLOW_GROWTH"] == "true" for share in found)
    assert "TF_FORCE_GPU_ALLOW_GROWTH" not in shares(2)[0]


def test_parts_of_a_gpu_are_given_instead_of_it(machine):
    machine(8, PARTS)
    assert gpus() == ["MIG-33333333-cccc", "MIG-44444444-dddd"]


@pytest.mark.parametrize(
    ("allowed", "found"), [("1,0", ["1", "0"]), ("GPU-x", ["GPU-x"]), ("", []), ("-1", []), ("0,-1,1", ["0"])]
)
def test_gpus_that_the_user_allows_are_divided(machine, monkeypatch, allowed, found):
    machine(8, LISTED)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert gpus() == found
    assert ("CUDA_VISIBLE_DEVICES" in shares(1)[0]) == bool(found)


def test_without_gpus_nothing_is_said_of_them(machine):
    machine(8)
    assert gpus() == [] and "CUDA_VISIBLE_DEVICES" not in shares(1)[0]
    machine(8, "")
    assert gpus() == []
