"""Divides the cores and GPUs of this machine among worker processes."""

import os
import re
import shutil
import subprocess


def cores(count: int) -> list[set[int] | None]:
    """Returns the numbers of the cores of each worker; None if the system does not support binding.

    A worker that is bound to its cores also starts no more threads than it has cores, since TensorFlow and OpenMP count
    the available ones. With fewer threads but no binding, small models train at half the speed.

    Args:
        count: int, workers on this machine; if there are more of them than cores, several share one.
    """
    if not hasattr(os, "sched_getaffinity"):
        return [None] * count
    there = sorted(os.sched_getaffinity(0))
    if count >= len(there):
        return [{there[index % len(there)]} for index in range(count)]
    bounds = [index * len(there) // count for index in range(count + 1)]
    return [set(there[first:end]) for first, end in zip(bounds, bounds[1:], strict=False)]


def gpu_variables(count: int) -> list[dict[str, str]]:
    """Returns environment variables that assign one GPU to each worker, in turn; {} if there is no GPU.

    Args:
        count: int, workers on this machine; if there are more of them than GPUs, several share one.
    """
    found = gpus()
    if not found:
        return [{}] * count
    # By default, TensorFlow allocates the memory of the whole GPU.
    grow = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"} if count > len(found) else {}
    return [{**grow, "CUDA_VISIBLE_DEVICES": found[index % len(found)]} for index in range(count)]


def gpus() -> list[str]:
    """Returns the GPUs that this process may use, as in `CUDA_VISIBLE_DEVICES`, without CUDA or TensorFlow."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        found = [name.strip() for name in allowed.split(",")]
        return found[: found.index("-1")] if "-1" in found else [name for name in found if name]
    if shutil.which("nvidia-smi") is None:
        return []
    answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    # By UUID, since nvidia-smi and CUDA number GPUs differently. A GPU with MIG is used through its instances.
    parts = re.findall(r"UUID: (MIG-[^)\s]+)", answer.stdout)
    return parts or re.findall(r"UUID: (GPU-[^)\s]+)", answer.stdout)
