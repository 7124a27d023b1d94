"""The part of this machine that each of several worker processes gets."""

import os
import re
import shutil
import subprocess


def cores(count: int) -> list[set[int] | None]:
    """Numbers of the cores for each of `count` workers; None where the system cannot tell or bind them.

    Bound to its cores, a worker also starts no more threads than it has cores: TensorFlow and OpenMP count those that
    they may use. Told to start fewer threads but free to wander, small models train at half the speed.

    Args:
        count: int, workers on this machine; with more of them than cores, several share one.
    """
    if not hasattr(os, "sched_getaffinity"):
        return [None] * count
    there = sorted(os.sched_getaffinity(0))
    if count >= len(there):
        return [{there[index % len(there)]} for index in range(count)]
    bounds = [index * len(there) // count for index in range(count + 1)]
    return [set(there[first:end]) for first, end in zip(bounds, bounds[1:], strict=False)]


def gpu_variables(count: int) -> list[dict[str, str]]:
    """Environment variables that give each of `count` workers one GPU, in turn; none where there is no GPU.

    Args:
        count: int, workers on this machine; with more of them than GPUs, several share one.
    """
    found = gpus()
    if not found:
        return [{}] * count
    # TensorFlow takes a whole GPU unless it is told not to.
    grow = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"} if count > len(found) else {}
    return [{**grow, "CUDA_VISIBLE_DEVICES": found[index % len(found)]} for index in range(count)]


def gpus() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` calls them; found without CUDA or TensorFlow."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        found = [name.strip() for name in allowed.split(",")]
        return found[: found.index("-1")] if "-1" in found else [name for name in found if name]
    if shutil.which("nvidia-smi") is None:
        return []
    answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    # By UUID: numbers mean another order to nvidia-smi than to CUDA. A GPU cut into MIG parts is used by its parts.
    parts = re.findall(r"UUID: (MIG-[^)\s]+)", answer.stdout)
    return parts or re.findall(r"UUID: (GPU-[^)\s]+)", answer.stdout)
