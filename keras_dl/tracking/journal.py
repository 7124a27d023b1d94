"""Runs that are written to a file first and delivered to the MLflow store by a thread."""

import contextlib
import json
import logging
import os
import sys
import threading
import time
from pathlib import Path

import filelock
import mlflow

from keras_dl.errors import reason_of
from keras_dl.tracking.environment import owner
from keras_dl.tracking.outbox import EVENTS, Outbox
from keras_dl.tracking.settings import Settings, hide_password

GATHER = 1.0  # seconds for which new events are collected before they are delivered
RETRY = 3.0  # seconds between two attempts while the store does not answer


class Delivery:
    """Delivers the journals of this process to the store in a background thread. MLflow must be connected.

    If the store fails, a message is printed once and training continues. The journals are delivered when the store is
    available again, by this process or, with `adopt`, by a later one. Every run gets the tags of the settings.
    """

    def __init__(self, settings: Settings, experiment_id: str):
        self.settings, self.experiment_id = settings, experiment_id
        self.store = hide_password(mlflow.get_tracking_uri())
        self._client = mlflow.MlflowClient()
        self._waiting = {}  # a dict as an ordered set: outboxes with new events, oldest first
        self._changed = threading.Condition()
        self._busy = self._flushing = self._stopping = self._ended = self._failing = False
        self._thread = threading.Thread(target=self._run, name="mlflow-delivery", daemon=True)
        for noisy in ("mlflow.store.db.utils", "urllib3.connectionpool"):  # `_report_failure` prints it once
            logging.getLogger(noisy).setLevel(logging.CRITICAL)

    def start(self) -> "Delivery":
        self._thread.start()
        return self

    def __enter__(self) -> "Delivery":
        return self.start()

    def __exit__(self, kind, error, trace):
        """Stops the thread, quickly after an error, and sets `delivered`: whether all events were delivered."""
        self.delivered = self.stop(60 if error is None else 5)

    def flush(self, timeout: float) -> bool:
        """Waits at most `timeout` seconds until all events are in the store; returns whether they are."""
        with self._changed:
            self._flushing = True
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout)
            finally:
                self._flushing = False

    def stop(self, timeout: float) -> bool:
        """Delivers the remaining events within `timeout` seconds and ends the thread; returns whether none remain."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)
        with self._changed:
            self._ended = True
            self._changed.notify_all()
            return not self._waiting and not self._busy

    def adopt(self, folder: Path, parent_id: str) -> None:
        """Takes over journals that an earlier process could not deliver or whose runs the store has lost.

        They are in `trial_*/` and `trial_*/execution_*/` in the folder of the search whose run is `parent_id`.
        """
        for file in sorted(Path(folder).glob(f"trial_*/{EVENTS}")):
            trial = Outbox(file.parent, parent_id)
            executions = sorted(file.parent.glob(f"execution_*/{EVENTS}"))
            for outbox in [trial, *(Outbox(execution.parent, trial) for execution in executions)]:
                self.announce(outbox)

    def announce(self, outbox: Outbox) -> None:
        """Schedules the delivery of an outbox."""
        with self._changed:
            if not self._waiting:
                self._changed.notify_all()
            self._waiting[outbox] = None

    def wait_for_run(self, outbox: Outbox, timeout: float) -> str:
        """Waits until the run of an outbox exists and returns its id; TimeoutError after `timeout` seconds."""
        with self._changed:
            self._flushing = True
            self._changed.notify_all()
            try:
                if not self._changed.wait_for(lambda: outbox.run_id, timeout):
                    raise TimeoutError(f"no run for {outbox.folder} in {self.store} after {timeout} seconds")
            finally:
                self._flushing = False
        return outbox.run_id

    def _run(self):
        while self._wait():
            failed = self._deliver_all()
            with self._changed:
                self._busy = False
                if failed:
                    self._waiting = {**self._waiting, failed: None}
                self._changed.notify_all()
                if failed and not self._ended:
                    pause = 0.5 if self._stopping else RETRY
                    self._changed.wait_for(lambda: self._ended or (self._stopping and pause == RETRY), pause)  # noqa: B023

    def _wait(self):
        """Waits for something to deliver; returns False when the thread should end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            self._changed.wait_for(lambda: self._flushing or self._stopping, GATHER)
            self._busy = bool(self._waiting) and not self._ended
            return self._busy

    def _deliver_all(self):
        """Delivers one outbox after another; returns the one at which the store failed, or None."""
        while True:
            with self._changed:
                if self._ended or not self._waiting:
                    return None
                outbox = next(iter(self._waiting))
                del self._waiting[outbox]
            try:
                outbox.deliver(self._client, self.experiment_id)
            except Exception as error:  # no failure of a store may stop training
                if not isinstance(error, filelock.Timeout):
                    self._report_failure(outbox, error)
                return outbox
            if self._failing:
                self._failing = False
                print(f"the MLflow store {self.store} is back; delivering the stored runs", file=sys.stderr, flush=True)
            with self._changed:
                self._changed.notify_all()

    def _report_failure(self, outbox, error):
        if self._failing:
            return
        self._failing = True
        reason = hide_password(reason_of(error))[:200]
        print(
            f"the MLflow store {self.store} does not answer ({reason}); training continues, and the runs are stored in "
            f"{outbox.folder.parent} and delivered later",
            file=sys.stderr,
            flush=True,
        )


class Journal:
    """A run whose calls append a line to `events.jsonl` in a folder and return immediately.

    Opening an existing journal resumes it: its run becomes RUNNING, an incomplete last line is dropped, and metrics
    that an earlier process recorded are not recorded twice. The tags `trial` and `execution` identify the run among the
    children of `parent`, the id of a run or its `Journal`.
    """

    def __init__(self, delivery: Delivery, folder: Path, name: str, tags: dict, parent: "Journal | str"):
        self._open(delivery, folder, parent._outbox if isinstance(parent, Journal) else parent)
        self._write({"begin": name, "tags": {**delivery.settings.tracking.tags, **tags, "owner": owner()}})

    @classmethod
    def of_run(cls, delivery: Delivery, folder: Path, run_id: str) -> "Journal":
        """Returns a journal of an existing run, such as the active one, which it neither starts nor ends."""
        journal = cls.__new__(cls)
        journal._open(delivery, folder, None)
        journal._outbox.set_run(run_id)
        return journal

    def _open(self, delivery, folder, parent):
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._delivery, self._path, self._lock = delivery, folder / EVENTS, threading.Lock()
        self._outbox = Outbox(folder, parent)
        self._earlier = _recover(self._path)

    def params(self, values: dict) -> None:
        self._write({"params": {name: str(value) for name, value in values.items()}})

    def metrics(self, values: dict, step: int) -> None:
        new = {name: float(value) for name, value in values.items() if (name, step) not in self._earlier}
        if new:
            self._write({"metrics": new, "step": int(step)})

    def tags(self, values: dict) -> None:
        self._write({"tags": {name: str(value) for name, value in values.items()}})

    def error(self, message: str, details: str) -> None:
        """Records an error where the UI shows it: the message as a tag, the traceback as `error.txt`."""
        self._write({"tags": {"error": message[:4000]}, "text": details, "name": "error.txt"})

    def text(self, text: str, name: str) -> None:
        """Records a text file of the run."""
        self._write({"text": text, "name": name})

    def end(self, status: str) -> None:
        """Ends the run with the status `"FINISHED"`, `"FAILED"` or `"KILLED"`."""
        self._write({"end": status})

    def run_id(self, timeout: float) -> str:
        """Waits until the run exists in the store and returns its id; TimeoutError after `timeout` seconds."""
        return self._delivery.wait_for_run(self._outbox, timeout)

    def _write(self, event):
        line = json.dumps({"time": int(time.time() * 1000), **event}).encode() + b"\n"
        with self._lock:
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                size = os.fstat(file).st_size
                try:
                    if os.write(file, line) < len(line):
                        raise OSError(28, "No space left on device", str(self._path))
                except OSError:
                    os.ftruncate(file, size)  # an incomplete line would corrupt the next one
                    raise
            finally:
                os.close(file)
        self._delivery.announce(self._outbox)


def _recover(path):
    """Removes an incomplete last line, as left by a killed process; returns the recorded metrics as {(name, step)}."""
    recorded = set()
    if not path.is_file():
        return recorded
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
    for line in content[:whole].splitlines():
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            recorded |= {(name, event["step"]) for name in event.get("metrics", {})}
    return recorded
