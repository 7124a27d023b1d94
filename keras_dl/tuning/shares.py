"""The part of this machine that each of several worker processes gets."""

import os
import re
import shutil
import subprocess


def shares(count: int) -> list[dict[str, str]]:
    """Environment variables for each of `count` workers: its share of the cores, and one GPU in turn.

    What the user has set counts: numbers of threads stay as they are, and GPUs are those of `CUDA_VISIBLE_DEVICES`.

    Args:
        count: int, workers on this machine.
    """
    threads = str(max(1, len(os.sched_getaffinity(0)) // count))
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    cores = {name: os.environ.get(name, threads) for name in names}
    found = gpus()
    if not found:
        return [cores] * count
    # TensorFlow takes a whole GPU unless it is told not to.
    grow = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"} if count > len(found) else {}
    return [{**cores, **grow, "CUDA_VISIBLE_DEVICES": found[index % len(found)]} for index in range(count)]


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
