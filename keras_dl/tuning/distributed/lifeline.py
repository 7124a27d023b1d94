"""The connection between a worker process and its supervisor: a socket as the worker's standard input.

The worker ends with its supervisor, and the supervisor learns whether the worker has received a trial.
"""

import contextlib
import os
import threading

ENDED = 3  # exit status of a worker whose supervisor is gone


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
