"""Starts, restarts and stops the worker processes of one machine.

A worker's standard input is a socket: the worker ends with its supervisor, and the supervisor learns whether the worker
has received a trial.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from keras_dl.errors import UserError

CRASHES = 3  # consecutive crashes of a worker, before it receives a trial, after which it is abandoned
DEATHS = 20  # the same, including deaths with an external cause, such as kill -9
REFUSED = 2  # exit status for an invalid input: a retry would fail too
LEAVE = 60.0  # seconds for workers to deliver their last results to the store at the end of the search
STOP = 10.0  # seconds for workers to stop
ENDED = 3  # exit status of a worker whose supervisor is gone


class Supervisor:
    """Runs worker processes while the context is entered; a worker that dies is restarted under the same name.

    The workers end with this process, even if it is killed. A restarted worker finds in `KERAS_DL_DIED`, an environment
    variable, how its predecessor ended. `--name NAME` is appended to the command of a worker. Workers share cores and
    GPUs; their output is in `<name>.log`. `gone` is called with the name of a worker that is abandoned.
    """

    def __init__(
        self, command: list[str], names: list[str], logs: Path, gone: Callable[[str], None] = lambda name: None
    ):
        self._gone, self._reasons = gone, {}
        shares = zip(names, cores(len(names)), gpu_variables(len(names)), strict=True) if names else []
        self._workers = [_Worker(command, name, logs / f"{name}.log", *share) for name, *share in shares]

    def __enter__(self):
        try:
            for worker in self._workers:
                worker.start()
        except BaseException:
            self._end(0, STOP)
            raise
        return self

    def __exit__(self, kind, *error):
        self._end(LEAVE if kind is None else 0, STOP)

    @property
    def running(self) -> bool:
        """Whether any worker is running or being restarted."""
        return any(worker.process is not None for worker in self._workers)

    @property
    def error(self) -> UserError:
        """The reason why no worker is left, from the first worker that was abandoned."""
        reasons = [f"{name}: {reason}" for name, reason in self._reasons.items()]
        return UserError(f"no worker is left. {reasons[0]}" if reasons else "no worker is left: all have ended")

    def check(self) -> None:
        """Restarts workers that have died; call it several times a second."""
        for worker in self._workers:
            if worker.process is None or (status := worker.poll()) is None:
                continue
            if status == 0:
                worker.process = None
            elif (reason := worker.given_up(status)) is None:
                _say(f"{worker.name} died: {worker.died['reason']}. Restarted")
                worker.start()
            else:
                worker.process = None
                self._reasons[worker.name] = reason
                _say(f"giving up on {worker.name}: {reason}")
                self._gone(worker.name)

    def wait(self) -> None:
        """Returns when all workers have ended; UserError if all of them were abandoned."""
        while self.running:
            self.check()
            time.sleep(0.1)
        if len(self._reasons) == len(self._workers):
            raise self.error

    def _end(self, leave, stop):
        for seconds, send in ((leave, signal.SIGTERM), (stop, signal.SIGKILL)):
            end = time.monotonic() + seconds
            while any(worker.alive for worker in self._workers) and time.monotonic() < end:
                time.sleep(0.05)
            for worker in self._workers:
                if worker.alive:
                    worker.process.send_signal(send)
        for worker in self._workers:
            if worker.process is not None:
                worker.process.wait()
            worker.close()


class _Worker:
    """A worker and its successive processes."""

    def __init__(self, command, name, log, cores, variables):
        self.command, self.name, self.log, self.cores = [*command, "--name", name], name, log, cores
        self.environment = {**os.environ, **variables, "PYTHONUNBUFFERED": "1"}
        self.process = self.line = self.died = None
        self.crashes = self.deaths = 0
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")

    def start(self):
        self.close()
        if self.died:
            self.environment["KERAS_DL_DIED"] = json.dumps(self.died)
        self.line, theirs = socket.socketpair()
        self.line.setblocking(False)
        self.out_of_memory = _out_of_memory()
        self.written = self.log.stat().st_size
        with theirs, open(self.log, "ab") as log:
            # In a new session, so that Ctrl-C reaches only the supervisor, which then stops its workers.
            self.process = subprocess.Popen(
                self.command, stdin=theirs, stdout=log, stderr=log, env=self.environment, start_new_session=True
            )
        if self.cores:
            with contextlib.suppress(ProcessLookupError):  # `check` will restart it
                os.sched_setaffinity(self.process.pid, self.cores)

    @property
    def alive(self):
        return self.process is not None and self.process.poll() is None

    def poll(self):
        status = self.process.poll()
        if has_begun(self.line):  # after `poll`, to include what it sent before it died
            self.crashes = self.deaths = 0
        return status

    def given_up(self, status):
        """Returns why a worker that ended with this status is not restarted; None if it is."""
        output = self.last_lines()
        if status == REFUSED:
            return output or "it exited without a message"
        killed = status in (-signal.SIGKILL, -signal.SIGTERM, 130)
        memory = status == -signal.SIGKILL and _out_of_memory() > self.out_of_memory
        reason = f"signal {-status} ({signal.Signals(-status).name})" if status < 0 else f"exit status {status}"
        self.died = {"reason": reason + (", out of memory" if memory else ""), "crash": not killed or memory}
        self.deaths += 1
        self.crashes += self.died["crash"]
        if self.crashes < CRASHES and self.deaths < DEATHS:
            return None
        return (
            f"it died {self.deaths} times before receiving a trial, most recently from {self.died['reason']}. {output}"
        )

    def last_lines(self):
        """Returns the end of the last process's output, in one line."""
        with open(self.log, "rb") as log:
            log.seek(max(self.written, self.log.stat().st_size - 2000))
            lines = log.read().decode(errors="replace").strip().splitlines()
        return " / ".join(line.strip().removeprefix("keras-dl: ") for line in lines[-3:])

    def close(self):
        if self.line is not None:
            self.line.close()


def _out_of_memory():
    """Returns how many processes Linux has killed for lack of memory since boot; 0 if unknown."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _say(sentence):
    print(f"keras-dl: {sentence}", file=sys.stderr, flush=True)


def hold() -> None:
    """Makes this process exit as soon as its supervisor has ended. The first call of a worker."""
    threading.Thread(target=_watch, daemon=True, name="lifeline").start()


def _watch():
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    os._exit(ENDED)


def tell_begun() -> None:
    """Tells the supervisor that this worker has received a trial."""
    with contextlib.suppress(OSError):
        os.write(0, b".")


def has_begun(line) -> bool:
    """Returns whether the worker at the other end of a non-blocking socket has called `tell_begun` since last asked."""
    with contextlib.suppress(OSError):
        return bool(line.recv(4096))
    return False


def cores(count: int) -> list[set[int] | None]:
    """Returns the numbers of the cores of each worker; None if the system does not support binding.

    A worker that is bound to its cores also starts no more threads than it has cores, since TensorFlow and OpenMP count
    the available ones. With fewer threads but no binding, small models train at half the speed.
    """
    if not hasattr(os, "sched_getaffinity"):
        return [None] * count
    there = sorted(os.sched_getaffinity(0))
    if count >= len(there):
        return [{there[index % len(there)]} for index in range(count)]
    bounds = [index * len(there) // count for index in range(count + 1)]
    return [set(there[first:end]) for first, end in zip(bounds, bounds[1:], strict=False)]


def gpu_variables(count: int) -> list[dict[str, str]]:
    """Returns environment variables that assign one GPU to each worker, in turn; {} if there is no GPU."""
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
