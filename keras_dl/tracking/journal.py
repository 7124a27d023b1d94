"""What is told of a run: first written to a file, then brought to the MLflow store by a thread."""

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

from keras_dl.tracking.environment import owner
from keras_dl.tracking.outbox import EVENTS, Outbox
from keras_dl.tracking.runs import hide_password
from keras_dl.tracking.settings import Settings

GATHER = 1.0  # seconds: what is told within them goes into one call
RETRY = 3.0  # seconds between two attempts at a store that does not answer


class Delivery:
    """Brings the journals of this process to the store, in a thread of its own.

    A store that fails stops nothing: that is said once, the journals grow, and they are delivered when it is back, by
    this process or, with `adopt`, by a later one.

    Args:
        settings: of `mlflow.yaml`; its tags are set on every run. Call `connect` first.
        experiment_id: str, where new runs go.
    """

    def __init__(self, settings: Settings, experiment_id: str):
        self.settings, self.experiment_id = settings, experiment_id
        self.store = hide_password(mlflow.get_tracking_uri())
        self._client = mlflow.MlflowClient()
        self._waiting = {}  # outboxes with something new, in the order of the telling
        self._changed = threading.Condition()
        self._busy = self._hurry = self._stopping = self._given_up = self._failing = False
        self._thread = threading.Thread(target=self._run, name="mlflow-delivery", daemon=True)
        for noisy in ("mlflow.store.db.utils", "urllib3.connectionpool"):  # we say it ourselves, and once
            logging.getLogger(noisy).setLevel(logging.CRITICAL)

    def start(self) -> "Delivery":
        self._thread.start()
        return self

    def __enter__(self) -> "Delivery":
        return self.start()

    def __exit__(self, kind, error, trace):
        """Ends the thread, soon if an error passes: the journals stay. `delivered` says whether nothing is left."""
        self.delivered = self.stop(60 if error is None else 5)

    def flush(self, timeout: float) -> bool:
        """Waits, at most `timeout` seconds, until all that was told is in the store; whether it is."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout)
            finally:
                self._hurry = False

    def stop(self, timeout: float) -> bool:
        """Delivers what is left, for at most `timeout` seconds, and ends the thread; whether nothing is left."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout)
        with self._changed:
            self._given_up = True
            self._changed.notify_all()
            return not self._waiting and not self._busy

    def adopt(self, folder: Path, parent_id: str) -> None:
        """Takes over what an earlier process could not deliver, or what the store lost since.

        Args:
            folder: of the search: its journals lie in `trial_*/` and `trial_*/execution_*/`.
            parent_id: str, the run of the search.
        """
        for file in sorted(Path(folder).glob(f"trial_*/{EVENTS}")):
            trial = Outbox(file.parent, parent_id)
            executions = sorted(file.parent.glob(f"execution_*/{EVENTS}"))
            for outbox in [trial, *(Outbox(execution.parent, trial) for execution in executions)]:
                self.announce(outbox)

    def announce(self, outbox: Outbox) -> None:
        """Says that there is something new in an outbox."""
        with self._changed:
            if not self._waiting:
                self._changed.notify_all()
            self._waiting[outbox] = None

    def wait_for_run(self, outbox: Outbox, timeout: float) -> str:
        """The id of an outbox's run, once it exists.

        Raises:
            TimeoutError: after `timeout` seconds.
        """
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            try:
                if not self._changed.wait_for(lambda: outbox.run_id, timeout):
                    raise TimeoutError(f"no run for {outbox.folder} in {self.store} after {timeout} seconds")
            finally:
                self._hurry = False
        return outbox.run_id

    def _run(self):
        while self._wait():
            failed = self._deliver_all()
            with self._changed:
                self._busy = False
                if failed:
                    self._waiting = {**self._waiting, failed: None}
                self._changed.notify_all()
                if failed and not self._given_up:
                    pause = 0.5 if self._stopping else RETRY
                    self._changed.wait_for(lambda: self._given_up or (self._stopping and pause == RETRY), pause)  # noqa: B023

    def _wait(self):
        """Waits for something to deliver; False when the thread should end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            self._changed.wait_for(lambda: self._hurry or self._stopping, GATHER)
            self._busy = bool(self._waiting) and not self._given_up
            return self._busy

    def _deliver_all(self):
        """Delivers one outbox after the other; returns the one at which the store failed."""
        while True:
            with self._changed:
                if self._given_up or not self._waiting:
                    return None
                outbox = next(iter(self._waiting))
                del self._waiting[outbox]
            try:
                outbox.deliver(self._client, self.experiment_id)
            except Exception as error:  # whatever a store may raise, training goes on
                if not isinstance(error, filelock.Timeout):
                    self._complain(outbox, error)
                return outbox
            if self._failing:
                self._failing = False
                print(f"the MLflow store {self.store} is back; what was kept is delivered", file=sys.stderr, flush=True)
            with self._changed:
                self._changed.notify_all()

    def _complain(self, outbox, error):
        if self._failing:
            return
        self._failing = True
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        print(
            f"the MLflow store {self.store} does not answer ({hide_password(reason)}); training goes on, the runs are "
            f"kept in {outbox.folder.parent} and delivered later",
            file=sys.stderr,
            flush=True,
        )


class Journal:
    """One run as it is told: each call appends a line to `events.jsonl` and returns at once.

    A journal that is opened again goes on: its run becomes RUNNING, a line that a kill cut off is dropped, and points
    that an earlier process told already are not told twice.

    Args:
        delivery: `Delivery`, started.
        folder: of the journal, made if it is missing.
        name: str, what the UI calls the run.
        tags: dict; `trial` and `execution` among them tell a run from its siblings.
        parent: the id of the parent run, or its `Journal`.
    """

    def __init__(self, delivery: Delivery, folder: Path, name: str, tags: dict, parent: "Journal | str"):
        self._open(delivery, folder, parent._outbox if isinstance(parent, Journal) else parent)
        self._tell({"begin": name, "tags": {**delivery.settings.tracking.tags, **tags, "owner": owner()}})

    @classmethod
    def of_run(cls, delivery: Delivery, folder: Path, run_id: str) -> "Journal":
        """A journal of a run that exists, such as the active one; its beginning and end are its owner's."""
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
        self._tell({"params": {name: str(value) for name, value in values.items()}})

    def metrics(self, values: dict, step: int) -> None:
        new = {name: float(value) for name, value in values.items() if (name, step) not in self._earlier}
        if new:
            self._tell({"metrics": new, "step": int(step)})

    def tags(self, values: dict) -> None:
        self._tell({"tags": {name: str(value) for name, value in values.items()}})

    def error(self, message: str, details: str) -> None:
        """Puts an error where the UI shows it: a tag with the message, and the traceback as `error.txt`."""
        self._tell({"tags": {"error": message[:4000]}, "text": details, "name": "error.txt"})

    def text(self, text: str, name: str) -> None:
        """A text file of the run."""
        self._tell({"text": text, "name": name})

    def end(self, status: str) -> None:
        """`"FINISHED"`, `"FAILED"` or `"KILLED"`."""
        self._tell({"end": status})

    def run_id(self, timeout: float) -> str:
        """Waits until the run exists in the store; TimeoutError after `timeout` seconds."""
        return self._delivery.wait_for_run(self._outbox, timeout)

    def _tell(self, event):
        line = json.dumps({"time": int(time.time() * 1000), **event}).encode() + b"\n"
        with self._lock:
            file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                size = os.fstat(file).st_size
                try:
                    if os.write(file, line) < len(line):
                        raise OSError(28, "No space left on device", str(self._path))
                except OSError:
                    os.ftruncate(file, size)  # half a line would spoil the next one
                    raise
            finally:
                os.close(file)
        self._delivery.announce(self._outbox)


def _recover(path):
    """Cuts off the line that a killed process did not finish; returns the points of the others as (name, step)."""
    told = set()
    if not path.is_file():
        return told
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
    for line in content[:whole].splitlines():
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            told |= {(name, event["step"]) for name in event.get("metrics", {})}
    return told
