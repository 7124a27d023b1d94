"""The cores and GPUs of each worker."""

import pytest

from keras_dl.tuning.distributed.shares import cores, gpu_variables, gpus

LISTED = """GPU 0: NVIDIA H200 (UUID: GPU-11111111-aaaa)
GPU 1: NVIDIA H200 (UUID: GPU-22222222-bbbb)
"""
PARTS = """GPU 0: NVIDIA H200 (UUID: GPU-11111111-aaaa)
  MIG 1g.18gb     Device  0: (UUID: MIG-33333333-cccc)
  MIG 1g.18gb     Device  1: (UUID: MIG-44444444-dddd)
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """machine(count, listed): sets the number of cores and the output of nvidia-smi -L; None removes the command."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    def make(count, listed=None):
        monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(count)))
        if listed is not None:
            (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n[ \"$1\" = -L ] && printf '%s' '{listed}'\n")
            (tmp_path / "nvidia-smi").chmod(0o755)

    return make


@pytest.mark.parametrize(
    ("there", "workers", "given"),
    [
        (8, 2, [{0, 1, 2, 3}, {4, 5, 6, 7}]),
        (8, 3, [{0, 1}, {2, 3, 4}, {5, 6, 7}]),
        (2, 2, [{0}, {1}]),
        (2, 3, [{0}, {1}, {0}]),
        (2, 1, [{0, 1}]),
    ],
)
def test_cores_are_divided(machine, there, workers, given):
    machine(there)
    assert cores(workers) == given


def test_without_support_for_binding_the_cores_are_none(monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity")
    assert cores(2) == [None, None]


def test_each_worker_gets_a_gpu_in_turn(machine):
    machine(8, LISTED)
    found = gpu_variables(3)
    assert [share["CUDA_VISIBLE_DEVICES"] for share in found] == [
        "GPU-11111111-aaaa",
        "GPU-22222222-bbbb",
        "GPU-11111111-aaaa",
    ]
    assert all(share["TF_FORCE_GPU_ALLOW_GROWTH"] == "true" for share in found)
    assert "TF_FORCE_GPU_ALLOW_GROWTH" not in gpu_variables(2)[0]


def test_a_gpu_with_mig_is_used_through_its_instances(machine):
    machine(8, PARTS)
    assert gpus() == ["MIG-33333333-cccc", "MIG-44444444-dddd"]


@pytest.mark.parametrize(
    ("allowed", "found"), [("1,0", ["1", "0"]), ("GPU-x", ["GPU-x"]), ("", []), ("-1", []), ("0,-1,1", ["0"])]
)
def test_only_the_visible_gpus_are_used(machine, monkeypatch, allowed, found):
    machine(8, LISTED)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert gpus() == found
    assert ("CUDA_VISIBLE_DEVICES" in gpu_variables(1)[0]) == bool(found)


def test_without_gpus_there_are_no_variables(machine):
    machine(8)
    assert gpus() == [] and gpu_variables(2) == [{}, {}]
    machine(8, "")
    assert gpus() == []
