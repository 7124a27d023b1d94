"""Starts the server in a child process, and again whenever a model crashes it.

A graph can always abort its process, and TensorFlow cannot be stopped from doing so. The parent process has imported
everything and holds the listening socket, but runs no model: forking it takes milliseconds, while importing TensorFlow
takes seconds, and clients that connect in the meantime wait. A crash fails only the requests in flight, whose
connections close without an answer. (One process for each model would lose fewer requests, but copying all tensors
between processes would slow down every request.)
"""

import contextlib
import itertools
import logging
import mmap
import os
import signal
import socket
import threading
import warnings
from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_MOST_FAILED_STARTS = 3
_READY, _RUNNING = b"ready", "running"
# Memory shared with the child process. The first slot is `_READY` or empty; each other one is the work of a thread.
_SLOTS, _SLOT_BYTES = 64, 256
_shared = mmap.mmap(-1, _SLOTS * _SLOT_BYTES)
_numbers = itertools.count(1)
_thread = threading.local()


def supervise(serve: Callable[[], int], listener: socket.socket) -> int:
    """Calls `serve` in a child process, again after each crash, and returns its exit code.

    A crash is the end of the process by a signal. SIGINT and SIGTERM are passed on to the child process, which also
    gets SIGTERM if this process ends. On Windows, which cannot fork, `serve` is called in this process.

    Args:
        serve: returns an exit code. In the child process, this function returns that code and passes exceptions on.
        listener: the socket that `serve` listens on. This process keeps it open until it is asked to stop.

    Returns:
        The exit code of `serve`, or 1 if the server crashed three times in a row before it was ready, or while it
        loaded a model.
    """
    if not hasattr(os, "fork"):
        return serve()
    handlers, stopped, failed = {number: signal.getsignal(number) for number in _SIGNALS}, [], 0
    while True:
        _shared[:] = bytes(len(_shared))
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        child, lifeline = _fork()
        for number in _SIGNALS:
            signal.signal(number, _forward(child, stopped, listener) if child else handlers[number])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        if not child:
            return serve()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.close(lifeline)
        if code >= 0 or stopped:
            return code if code >= 0 else 128 - code
        work = _work()
        started = _shared[: len(_READY)] == _READY and not any(text.startswith("loading") for text in work)
        failed = 0 if started or any(text.startswith(_RUNNING) for text in work) else failed + 1
        while_doing = f" while {' and '.join(work)}" if work else ""
        if failed == _MOST_FAILED_STARTS:
            logger.error("the server crashed%s (%s) for the third time: giving up", while_doing, _name(code))
            return 1
        logger.error("the server crashed%s (%s): restarting", while_doing, _name(code))


def ready() -> None:
    """Records that all models have been loaded: a crash from now on is not a failed start."""
    _shared[: len(_READY)] = _READY


def loading(model: str) -> contextlib.AbstractContextManager:
    """Records that this thread loads a model."""
    return _doing(f"loading {model}")


def running(model: str) -> contextlib.AbstractContextManager:
    """Records that this thread runs a model."""
    return _doing(f"{_RUNNING} {model}")


@contextlib.contextmanager
def _doing(text: str) -> Iterator[None]:
    if not hasattr(_thread, "start"):
        _thread.start = next(_numbers) * _SLOT_BYTES
    start, content = _thread.start, text.encode(errors="replace")[:_SLOT_BYTES]
    if start >= len(_shared):  # more threads than slots
        yield
        return
    before = _shared[start : start + _SLOT_BYTES]
    _shared[start : start + _SLOT_BYTES] = content.ljust(_SLOT_BYTES, b"\0")
    try:
        yield
    finally:
        _shared[start : start + _SLOT_BYTES] = before


def _work() -> list[str]:
    slots = (_shared[start : start + _SLOT_BYTES] for start in range(_SLOT_BYTES, len(_shared), _SLOT_BYTES))
    return sorted({text for slot in slots if (text := slot.rstrip(b"\0").decode(errors="replace"))})


def _fork() -> tuple[int, int]:
    """Returns the child's process number and a file that keeps it alive; (0, 0) in the child process."""
    waiting, lifeline = os.pipe()
    with warnings.catch_warnings():  # the only other threads are idle ones of libraries that support forks
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        os.close(waiting)
        return child, lifeline
    os.close(lifeline)
    os.setpgid(0, 0)  # Ctrl-C reaches only the parent, which passes it on
    threading.Thread(target=_end_with_parent, args=(waiting,), daemon=True).start()
    return 0, 0


def _end_with_parent(waiting: int) -> None:
    os.read(waiting, 1)  # returns when the parent's end is closed
    os.kill(os.getpid(), signal.SIGTERM)


def _forward(child: int, stopped: list[int], listener: socket.socket) -> Callable:
    def handle(number, _):
        stopped.append(number)
        listener.close()  # the child process refuses new connections when it no longer accepts requests
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    return handle


def _name(code: int) -> str:
    return signal.Signals(-code).name
