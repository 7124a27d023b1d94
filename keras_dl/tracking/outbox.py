"""Delivery of one journal to its run in MLflow."""

import contextlib
import json
import sys
from pathlib import Path

import filelock
from mlflow import MlflowClient, MlflowException
from mlflow.entities import Metric, Param, RunTag

from keras_dl.durable import write_json
from keras_dl.errors import reason_of
from keras_dl.tracking.names import mlflow_names, with_mlflow_names

# Errors for which a retry is pointless; all others may be temporary.
REFUSED = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE", "MALFORMED_REQUEST"}
EVENTS, DELIVERED = "events.jsonl", "delivered.json"
CHUNK = 1000  # metrics per call; MLflow accepts a tenth as many params or tags


class _RunLost(Exception):
    """The store no longer knows the run: its database was recreated."""


class Outbox:
    """The undelivered part of one journal.

    `delivered.json` next to the journal stores the progress. Delivering an event twice is harmless: MLflow identifies a
    metric by its timestamp, and an existing run is looked up before one is created. `parent` is the id of the parent
    run, the `Outbox` that creates it, or None.
    """

    def __init__(self, folder: Path, parent: "Outbox | str | None"):
        self.folder, self.parent = folder, parent
        self._reported = set()
        self._read_progress()

    def set_run(self, run_id: str) -> None:
        """Assigns an existing run to the journal."""
        if self.run_id != run_id:
            self.run_id = run_id
            self._save(0)

    def _read_progress(self):
        self.run_id, self.offset = None, 0
        with contextlib.suppress(OSError, ValueError, KeyError):  # missing, or truncated by a power failure
            progress = json.loads((self.folder / DELIVERED).read_bytes())
            self.run_id, self.offset = progress["run_id"], progress["offset"]

    def _save(self, offset):
        self.offset = offset
        write_json(self.folder / DELIVERED, {"run_id": self.run_id, "offset": offset})

    def unread(self) -> tuple[list[dict], int]:
        """Returns the undelivered events and the offset of their end; an incomplete last line is not included."""
        with open(self.folder / EVENTS, "rb") as file:
            file.seek(self.offset)
            content = file.read()
        whole = content.rfind(b"\n") + 1
        events = []
        for line in content[:whole].splitlines():
            with contextlib.suppress(ValueError):
                events.append(json.loads(line))
        return events, self.offset + whole

    def deliver(self, client: MlflowClient, experiment_id: str) -> None:
        """Sends all undelivered events to the store.

        Raises:
            Exception: the store's error if it fails; the events then remain undelivered.
            filelock.Timeout: if another process is delivering the journal.
        """
        if not (self.folder / EVENTS).is_file():
            return  # the folder of the search was deleted
        with filelock.FileLock(self.folder / "delivered.lock", timeout=1):  # another process may have adopted it
            self._read_progress()
            events, _ = self.unread()
            begins = any("begin" in event for event in events)
            if self.run_id and (begins and not self._exists(client) or not events and self._is_lost(client)):
                self.run_id, self.offset = None, 0  # the run was deleted; the journal still has all events
            try:
                self._deliver(client, experiment_id)
            except _RunLost:
                self.run_id, self.offset = None, 0
                self._deliver(client, experiment_id)

    def _deliver(self, client, experiment_id):
        events, end = self.unread()
        if events:
            created = self.run_id is None and self._find_or_create(client, experiment_id, events[0])
            self._send(client, events, created)
            self._save(end)

    def _find_or_create(self, client, experiment_id, begin):
        """Sets `run_id`; returns whether the run is new."""
        if isinstance(self.parent, Outbox) and (self.parent.run_id is None or self.parent._is_lost(client)):
            self.parent.deliver(client, experiment_id)
        tags = _tags(begin["tags"] | self._parent_tag())
        found = self._find(client, experiment_id, tags)
        run = found or client.create_run(experiment_id, begin["time"], tags, begin["begin"])
        self.run_id = run.info.run_id
        self._save(self.offset)
        return found is None

    def _find(self, client, experiment_id, tags):
        """Returns the run of the same trial and execution under the same parent, or None.

        Its id is not stored here if a process was killed right after creating the run or if another machine took over
        the trial.
        """
        if "trial" not in tags:
            return None
        filters = [
            f"tags.`{key}` = '{tags[key]}'" for key in ("mlflow.parentRunId", "trial", "execution") if key in tags
        ]
        runs = client.search_runs([experiment_id], " and ".join(filters), max_results=1)
        return runs[0] if runs else None

    def _send(self, client, events, created):
        params, tags, metrics, texts, status = {}, {}, [], [], None
        for event in events:
            time = event["time"]
            if "begin" in event:
                status = None
                tags.pop("error", None)  # resumed
                if not (created and event is events[0]):  # a new run was created with these tags
                    tags |= event["tags"] | self._parent_tag()
            else:
                tags |= event.get("tags", {})
            for name, value in with_mlflow_names(event.get("params", {})).items():
                params.setdefault(name, value)
            named = with_mlflow_names(event.get("metrics", {}))
            metrics += [Metric(name, value, time, event["step"]) for name, value in named.items()]
            if "text" in event:
                texts.append((event["text"], *mlflow_names([event["name"]]).values()))
            if "end" in event:
                status = event["end"], time
        if not created and any("begin" in event for event in events):
            self._resume(client, keep_error="error" in tags)
        entities = [Param(name, _text(value, 6000)) for name, value in params.items()]
        entities += [RunTag(name, value) for name, value in _tags(tags).items()]
        for chunk in _chunks(entities + metrics):
            self._log(client, chunk)
        for text, name in texts:
            self._attempt(client, lambda: client.log_text(self.run_id, text, name), name)  # noqa: B023
        if status:
            self._attempt(client, lambda: client.set_terminated(self.run_id, *status), "the status")

    def _parent_tag(self):
        parent = self.parent.run_id if isinstance(self.parent, Outbox) else self.parent
        return {"mlflow.parentRunId": parent} if parent else {}

    def _resume(self, client, keep_error):
        run = client.get_run(self.run_id)
        if run.info.status != "RUNNING":
            client.update_run(self.run_id, status="RUNNING")
        if "error" in run.data.tags and not keep_error:
            client.delete_tag(self.run_id, "error")

    def _log(self, client, chunk):
        """Logs entities in one call; if the store rejects it, bisects them until only the invalid ones are left out."""
        by_kind = {kind: [each for each in chunk if isinstance(each, kind)] for kind in (Metric, Param, RunTag)}
        try:
            client.log_batch(self.run_id, by_kind[Metric], by_kind[Param], by_kind[RunTag])
        except MlflowException as error:
            if error.error_code not in REFUSED:
                raise
            self._check_lost(client, error)
            if len(chunk) == 1 or not self._exists(client):
                self._report(f"{chunk[0].key} and more" if len(chunk) > 1 else chunk[0].key, error)
                return
            self._log(client, chunk[: len(chunk) // 2])
            self._log(client, chunk[len(chunk) // 2 :])

    def _attempt(self, client, call, name):
        try:
            call()
        except MlflowException as error:
            if error.error_code not in REFUSED:
                raise
            self._check_lost(client, error)
            self._report(name, error)
        except PermissionError as error:
            self._report(name, error)

    def _report(self, name, error):
        if name not in self._reported:
            self._reported.add(name)
            reason = reason_of(error)[:300]
            print(f"MLflow rejects {name} of the run in {self.folder}: {reason}", file=sys.stderr, flush=True)

    def _check_lost(self, client, error):
        if error.error_code == "RESOURCE_DOES_NOT_EXIST" and self._is_lost(client):
            raise _RunLost

    def _is_lost(self, client):
        """Returns whether the store has no record of a run that the journal created, not even as deleted."""
        with open(self.folder / EVENTS, "rb") as file:
            if b'"begin"' not in file.readline():
                return False
        try:
            client.get_run(self.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return True
        return False

    def _exists(self, client):
        try:
            return client.get_run(self.run_id).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code not in REFUSED:
                raise
            return False


def _chunks(entities):
    chunk, weight = [], 0
    for entity in entities:
        weight += 1 if isinstance(entity, Metric) else 10
        if weight > CHUNK:
            yield chunk
            chunk, weight = [], 1 if isinstance(entity, Metric) else 10
        chunk.append(entity)
    if chunk:
        yield chunk


def _tags(tags):
    return {name: _text(value, 8000) for name, value in with_mlflow_names(tags).items()}


def _text(value, limit):
    # PostgreSQL rejects null characters; all stores reject unpaired surrogates.
    return str(value).replace("\0", "").encode("utf-8", "replace").decode()[:limit]
