"""The environment of a run: versions, devices, the state of the git tree, and the process that owns it."""

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
    """Returns versions, devices and the state of the git tree that contains `folder`.

    `git_commit` is "none" outside a git tree.
    """
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
    """Returns the current commit of the git tree that contains `folder`; None outside a git tree."""
    return _git(folder, "rev-parse", "HEAD").strip() or None


def command_line() -> str:
    """Returns the command line of this process, quoted for a shell."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def git_diff(folder: Path) -> str:
    """Returns the uncommitted changes of the git tree that contains `folder`, truncated after 200,000 characters.

    Untracked files are listed by name.
    """
    untracked = _git(folder, "ls-files", "--others", "--exclude-standard", "--full-name", ":/")
    text = "".join(f"# untracked: {name}\n" for name in untracked.splitlines()) + _git(
        folder, "diff", "--no-ext-diff", "--no-color", "HEAD"
    )
    return text if len(text) <= DIFF_LIMIT else text[:DIFF_LIMIT] + "\n# truncated\n"


def owner() -> str:
    """Returns a unique name of this process, consisting of host, process id and start time."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def is_gone(name: str) -> bool:
    """Returns whether the process with this `owner` name has ended; False for a process on another host."""
    host, *numbers = name.rsplit(":", 2)
    if host != socket.gethostname() or len(numbers) != 2 or not all(part.isdigit() for part in numbers):
        return False
    pid, started = map(int, numbers)
    try:
        process = psutil.Process(pid)
        # Adjusting the clock shifts the start time slightly; process ids are not reused within two seconds.
        return process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - started) > 2
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
    """Returns {GPU name: memory in GB}; {} without nvidia-ml-py or a driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return {pynvml.nvmlDeviceGetName(each): pynvml.nvmlDeviceGetMemoryInfo(each).total / 1e9 for each in handles}
    except Exception:  # NVML has a separate exception class for each reason why it is unavailable
        return {}


def _git(folder, *arguments):
    try:
        answer = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.decode("utf-8", "replace") if answer.returncode == 0 else ""
