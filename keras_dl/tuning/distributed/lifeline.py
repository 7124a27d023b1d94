"""The line between a worker process and its supervisor: the worker's standard input, a socket.

The worker ends with its supervisor, and the supervisor learns whether the worker got as far as a trial.
"""

import contextlib
import os
import threading

ENDED = 3  # exit status of a worker whose supervisor is gone


def hold() -> None:
    """Ends this process at once when its supervisor is gone, however that ended. For a worker, before all else."""
    threading.Thread(target=_watch, daemon=True, name="lifeline").start()


def _watch():
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    os._exit(ENDED)


def tell_begun() -> None:
    """Tells the supervisor that a trial was given to this worker."""
    with contextlib.suppress(OSError):
        os.write(0, b".")


def has_begun(line) -> bool:
    """Whether the worker at the other end of a socket, which does not block, has said so since it was asked last."""
    with contextlib.suppress(OSError):
        return bool(line.recv(4096))
    return False
