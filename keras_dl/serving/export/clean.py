"""Runs SavedModels in a process without keras_dl, as TensorFlow Serving would.

One child process serves all exports of this process, because TensorFlow takes seconds to import. It starts on first use
and ends with this process.
"""

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from keras_dl.errors import reason_of
from keras_dl.serving.export import clean_worker

_SECONDS = 300.0  # limit for a load or an answer


class ModelFailed(Exception):
    """The SavedModel could not be loaded or run; the text is the first line of TensorFlow's message."""


class CleanProcess:
    """A child process with one SavedModel in memory; see `clean_process`."""

    def __init__(self):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        # The model must run on a server without a GPU, and the GPU memory belongs to the parent process.
        environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        self._process = subprocess.Popen(
            [sys.executable, "-I", clean_worker.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",  # so that relative paths fail
            env=environment,
            start_new_session=True,  # Ctrl-C stops only the parent
        )

    def load(self, folder: Path) -> None:
        """Loads a SavedModel and releases the previous one; ModelFailed if it cannot be loaded."""
        self._send({"load": str(folder.resolve())})

    def answer(self, signature_name: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a signature of the loaded model on arrays of the inputs' dtypes; ModelFailed if it raises an error."""
        texts = {key: clean_worker.encoded(array) for key, array in inputs.items()}
        outputs = self._send({"signature": signature_name, "inputs": texts})["outputs"]
        return {key: clean_worker.decoded(text) for key, text in outputs.items()}

    def is_running(self) -> bool:
        """Returns True while the process runs."""
        return self._process.poll() is None

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def _send(self, request):
        if self._process.stdin.closed:
            raise self._ended()
        watch = threading.Timer(_SECONDS, self._process.kill)
        watch.daemon = True
        watch.start()
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        except BaseException:  # after Ctrl-C here, the next request would read this answer
            self.close()
            raise
        finally:
            watch.cancel()
        if not line.endswith(b"\n"):  # the process died, perhaps while it wrote the answer
            self.close()
            raise self._ended()
        answer = json.loads(line)
        if "error" in answer:
            raise ModelFailed(reason_of(ModelFailed(answer["error"])))
        return answer

    def _ended(self):
        return ModelFailed(f"the process ended with status {self._process.returncode}")


_lock = threading.RLock()
_running: CleanProcess | None = None


def start_clean_process() -> None:
    """Starts the process if it is not running, without waiting for it."""
    global _running
    with _lock:
        if _running is None or not _running.is_running():
            _running = CleanProcess()


@contextlib.contextmanager
def clean_process() -> Iterator[CleanProcess]:
    """Yields the process to one thread at a time; starts a new one if it has ended."""
    with _lock:
        start_clean_process()
        yield _running


@atexit.register
def _end():
    if _running is not None:
        _running.close()


def _forget():
    """Runs in a forked child, which must not use the pipes of its parent's process."""
    global _lock, _running
    _lock, _running = threading.RLock(), None


os.register_at_fork(after_in_child=_forget)
