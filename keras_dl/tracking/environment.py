"""Where a run ran: versions, devices, the state of the git tree, and which process it belongs to."""

import contextlib
import importlib.metadata
import os
import platform
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import psutil

PACKAGES = ("keras-dl", "tensorflow", "keras", "keras-tuner", "tensorflow-datasets", "mlflow", "numpy", "scikit-learn")
DIFF_LIMIT = 200_000  # characters


def environment(folder: Path) -> dict:
    """Versions, devices and the state of the git tree around `folder`; `git_commit` is "none" outside of one."""
    import keras

    versions = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "command": command_line(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "packages": versions,
        "backend": keras.backend.backend(),
        "cpu": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "devices": _devices(),
        "git_commit": git_commit(folder) or "none",
        "git_dirty": bool(_git(folder, "status", "--porcelain")),
    }


def git_commit(folder: Path) -> str | None:
    """The commit of the git tree around `folder`; None outside of one."""
    return _git(folder, "rev-parse", "HEAD").strip() or None


def command_line() -> str:
    """The command of this process, as a shell would take it again."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def git_diff(folder: Path) -> str:
    """What the git tree around `folder` has beyond its commit, untracked files by name; cut at 200 000 characters."""
    untracked = _git(folder, "ls-files", "--others", "--exclude-standard", "--full-name", ":/")
    text = "".join(f"# untracked: {name}\n" for name in untracked.splitlines()) + _git(
        folder, "diff", "--no-ext-diff", "--no-color", "HEAD"
    )
    return text if len(text) <= DIFF_LIMIT else text[:DIFF_LIMIT] + "\n# cut here\n"


def owner() -> str:
    """This process, as no other one is called: host, process id and the time it began."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def is_gone(name: str) -> bool:
    """Whether a process that `owner` named is known to be gone; of another host's nothing is known."""
    host, *numbers = name.rsplit(":", 2)
    if host != socket.gethostname() or len(numbers) != 2 or not all(part.isdigit() for part in numbers):
        return False
    pid, began = map(int, numbers)
    try:
        process = psutil.Process(pid)
        # A clock that was set meanwhile moves the time a little; a process id is not given again so soon.
        return process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - began) > 2
    except psutil.NoSuchProcess:
        return True


def _cpu_model():
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _devices():
    import tensorflow as tf

    memory, names = _gpu_memory(), []
    for device in tf.config.list_physical_devices():
        details = tf.config.experimental.get_device_details(device) if device.device_type == "GPU" else {}
        name = details.get("device_name", device.name.removeprefix("/physical_device:"))
        names.append(f"{name} ({memory[name]:.0f} GB)" if name in memory else name)
    return names


def _gpu_memory():
    """GB of each kind of GPU; {} without nvidia-ml-py or a driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return {pynvml.nvmlDeviceGetName(each): pynvml.nvmlDeviceGetMemoryInfo(each).total / 1e9 for each in handles}
    except Exception:  # NVML raises classes of its own for each way of being absent
        return {}


def _git(folder, *arguments):
    try:
        answer = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.decode("utf-8", "replace") if answer.returncode == 0 else ""
