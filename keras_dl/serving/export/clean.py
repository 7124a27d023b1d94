"""Exports tried in a process that has never heard of keras_dl: what it answers, TensorFlow Serving answers.

One such process serves all exports of this one, since TensorFlow takes seconds to import. It begins on first use and
ends with us.
"""

import atexit
import base64
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from keras_dl.serving.export import clean_worker

_SECONDS = 300.0  # the longest that a load or an answer may take


class ModelFailed(Exception):
    """The SavedModel could not be loaded or run there; the text is TensorFlow's first line."""


class CleanProcess:
    """The process with one SavedModel in memory; see `clean_process`."""

    def __init__(self):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        # A server of CPUs must be able to run it; and the GPU's memory is ours.
        environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        self._process = subprocess.Popen(
            [sys.executable, "-I", clean_worker.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",  # where no relative path leads anywhere
            env=environment,
            start_new_session=True,  # Ctrl-C is for us
        )

    def load(self, folder: Path) -> None:
        """Loads a SavedModel in place of the one before.

        Raises:
            ModelFailed: if it cannot be loaded.
        """
        self._ask({"load": str(folder.resolve())})

    def answer(self, signature_name: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What a signature of the loaded model answers.

        Args:
            signature_name: one of the model's.
            inputs: an array for every input, of its dtype.

        Raises:
            ModelFailed: if it answers with an error.
        """
        texts = {
            key: base64.b64encode(tf.make_tensor_proto(array).SerializeToString()).decode()
            for key, array in inputs.items()
        }
        outputs = self._ask({"signature": signature_name, "inputs": texts})["outputs"]
        return {
            key: tf.make_ndarray(tensor_pb2.TensorProto.FromString(base64.b64decode(text)))
            for key, text in outputs.items()
        }

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def close(self) -> None:
        """Ends it."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def _ask(self, request):
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
        except BaseException:  # Ctrl-C between a question and its answer: the next one would read the wrong answer
            self.close()
            raise
        finally:
            watch.cancel()
        if not line.endswith(b"\n"):  # it died, in the middle of its answer perhaps
            self.close()
            raise self._ended()
        answer = json.loads(line)
        if "error" in answer:
            raise ModelFailed(_first_line(answer["error"]))
        return answer

    def _ended(self):
        return ModelFailed(f"the process that ran it ended with status {self._process.returncode}")


def _first_line(text):
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("Graph execution error")]
    return lines[0] if lines else text


_lock = threading.RLock()
_running: CleanProcess | None = None


def start_clean_process() -> None:
    """Begins the process, if it does not run, without waiting for it."""
    global _running
    with _lock:
        if _running is None or not _running.is_running():
            _running = CleanProcess()


@contextlib.contextmanager
def clean_process() -> Iterator[CleanProcess]:
    """The process, for one thread at a time; a new one if it has ended."""
    with _lock:
        start_clean_process()
        yield _running


@atexit.register
def _end():
    if _running is not None:
        _running.close()


def _forget():
    """In a forked child: the process is the parent's, and its pipes must not be ours to talk on."""
    global _lock, _running
    _lock, _running = threading.RLock(), None


os.register_at_fork(after_in_child=_forget)
