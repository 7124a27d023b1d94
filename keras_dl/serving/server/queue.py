"""A queue of the requests that wait for a run, fair to all models."""

import itertools
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from keras_dl.serving.server.sharing import Sharing


@dataclass(slots=True, eq=False, weakref_slot=True)
class Task:
    """One request.

    Attributes:
        model, signature_name, inputs: the run.
        sharing: how it may share a run, or None.
        key: equal for tasks of one model that may share a run; unique for a task that runs alone.
        rows, length: number of rows, and length along the axes that may be padded.
        api: the method under which its runtime is recorded.
        submitted, deadline: times of the monotonic clock.
        future: future of the outputs.
    """

    model: object
    signature_name: str
    inputs: Mapping[str, np.ndarray]
    sharing: Sharing | None
    key: Hashable
    rows: int
    length: int
    api: str
    submitted: float
    deadline: float
    future: Future


class WaitingTasks:
    """Waiting tasks by model and key.

    Models take turns, and so do the keys of one model: neither many requests nor many shapes delay another model's
    requests. Within a key the oldest task comes first. Not thread-safe.

    Args:
        max_batch_size: maximum number of rows in a batch.
        max_padding: as in `Batching`.
        max_batches: number of batches of one model that run at the same time; later tasks wait.
        max_runs: number of runs of one model at the same time, with or without sharing: fewer than the number of
            threads, so that a slow model cannot block the others.
        wait_seconds: how long a task waits until its batch is full. Tasks without sharing do not wait.
    """

    def __init__(self, max_batch_size: int, max_padding: float, max_batches: int, max_runs: int, wait_seconds: float):
        self._max_batch_size, self._max_padding = max_batch_size, max_padding
        self._max_batches, self._max_runs, self._wait_seconds = max_batches, max_runs, wait_seconds
        self._batches: Counter[str] = Counter()
        self._runs: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._models: OrderedDict[str, OrderedDict[Hashable, deque[Task]]] = OrderedDict()

    def count(self, name: str) -> int:
        """Returns the number of waiting tasks of a model."""
        return self._counts[name]

    def add(self, task: Task) -> bool:
        """Adds a task; returns whether the limits of its model allow it to run now."""
        keys = self._models.setdefault(task.model.name, OrderedDict())
        keys.setdefault(task.key, deque()).append(task)
        self._counts[task.model.name] += 1
        return self._may_run(task)

    def remove(self, task: Task) -> None:
        """Removes a task whose answer is no longer needed, if it is still waiting."""
        name, keys = task.model.name, self._models.get(task.model.name, {})
        tasks = keys.get(task.key, ())
        if task in tasks:
            tasks.remove(task)
            self._counts[name] -= 1
            self._clear(name, task.key)

    def take(self, now: float) -> list[Task]:
        """Removes and returns the tasks of the next run, or [] if nothing can run. Call `finished` after the run."""
        for name, keys in self._models.items():
            for key, tasks in keys.items():
                if self._ready_at(tasks) <= now:
                    return self._take(name, key)
        return []

    def finished(self, tasks: Sequence[Task]) -> None:
        """Marks the run of tasks returned by `take` as finished."""
        self._count_run(tasks[0], -1)

    def ready_at(self) -> float:
        """Returns when the next task becomes ready by waiting; infinity if that depends only on running tasks."""
        return min(
            (self._ready_at(tasks) for keys in self._models.values() for tasks in keys.values()),
            default=math.inf,
        )

    def _may_run(self, task: Task) -> bool:
        name = task.model.name
        is_next = task.sharing is None or self._batches[name] < self._max_batches
        return is_next and self._runs[name] < self._max_runs

    def _count_run(self, task: Task, change: int) -> None:
        for counts in [self._runs] if task.sharing is None else [self._runs, self._batches]:
            counts[task.model.name] += change

    def _ready_at(self, tasks: deque[Task]) -> float:
        oldest = tasks[0]
        if not self._may_run(oldest):
            return math.inf
        if oldest.sharing is None or not self._wait_seconds or sum(task.rows for task in tasks) >= self._max_batch_size:
            return oldest.submitted
        return oldest.submitted + self._wait_seconds

    def _take(self, name: str, key: Hashable) -> list[Task]:
        keys = self._models[name]
        taken, keys[key] = self._batch(keys[key])
        self._count_run(taken[0], 1)
        self._counts[name] -= len(taken)
        keys.move_to_end(key)
        self._models.move_to_end(name)
        self._clear(name, key)
        return taken

    def _clear(self, name: str, key: Hashable) -> None:
        """Removes a key without tasks, and a model without keys."""
        if not self._models[name][key]:
            del self._models[name][key]
        if not self._models[name]:
            del self._models[name]

    def _batch(self, tasks: deque[Task]) -> tuple[list[Task], deque[Task]]:
        """Returns the oldest task with all that fit into its batch, and the others."""
        taken, remaining = [tasks[0]], deque()
        rows, longest, data = tasks[0].rows, tasks[0].length, tasks[0].rows * tasks[0].length
        for task in itertools.islice(tasks, 1, None):
            rows_with, longest_with, data_with = (
                rows + task.rows,
                max(longest, task.length),
                data + task.rows * task.length,
            )
            if rows_with <= self._max_batch_size and rows_with * longest_with <= (1 + self._max_padding) * data_with:
                taken.append(task)
                rows, longest, data = rows_with, longest_with, data_with
            else:
                remaining.append(task)
        return taken, remaining
