"""The requests that wait for a run, in one queue that is fair to all models."""

import itertools
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from keras_dl.serving.server.sharing import Sharing


@dataclass(slots=True, eq=False)
class Task:
    """One request.

    Attributes:
        model, signature_name, inputs: what is to be run.
        sharing: how it may share a run, or None.
        key: equal for tasks of one model that may share a run; its own for one that runs alone.
        rows, length: that it adds to a batch, and needs of it along the axes that may be padded.
        api: under which its runtime is recorded.
        submitted, deadline: of the monotonic clock.
        future: of the outputs.
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
    """Tasks by model and by key. Models take turns, and the keys of one model too: neither many requests nor many
    shapes keep another model's requests waiting. Within a key the oldest is always taken. Not thread-safe.

    Args:
        max_batch_size: rows that are taken at once.
        max_padding: as in `Batching`.
        max_running: batches of one model that run at once; what comes meanwhile gathers. Tasks without sharing are not
            limited.
        wait_seconds: how long a task waits for others of its key while they are fewer. Tasks without sharing never do.
    """

    def __init__(self, max_batch_size: int, max_padding: float, max_running: int, wait_seconds: float):
        self._max_batch_size, self._max_padding = max_batch_size, max_padding
        self._max_running, self._wait_seconds = max_running, wait_seconds
        self._running: Counter[str] = Counter()
        self._models: OrderedDict[str, OrderedDict[Hashable, deque[Task]]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, task: Task) -> bool:
        """Whether it may be taken now, as far as its model's running batches go."""
        keys = self._models.setdefault(task.model.name, OrderedDict())
        keys.setdefault(task.key, deque()).append(task)
        self._size += 1
        return task.sharing is None or self._running[task.model.name] < self._max_running

    def take(self, now: float) -> list[Task]:
        """The tasks of the next run, taken out; none if there is nothing to run. `ended` gives them back."""
        for name, keys in self._models.items():
            for key, tasks in keys.items():
                if self._ripe_at(name, tasks) <= now:
                    return self._take(name, key)
        return []

    def ended(self, tasks: Sequence[Task]) -> None:
        """The run of what was taken is over."""
        if tasks[0].sharing is not None:
            self._running[tasks[0].model.name] -= 1

    def ripe_at(self) -> float:
        """When there will be something to take, as far as is known: infinity if nothing is waited for but runs."""
        return min(
            (self._ripe_at(name, tasks) for name, keys in self._models.items() for tasks in keys.values()),
            default=math.inf,
        )

    def _ripe_at(self, name: str, tasks: deque[Task]) -> float:
        oldest = tasks[0]
        if oldest.sharing is None:
            return oldest.submitted
        if self._running[name] >= self._max_running:
            return math.inf
        if not self._wait_seconds or sum(task.rows for task in tasks) >= self._max_batch_size:
            return oldest.submitted
        return oldest.submitted + self._wait_seconds

    def _take(self, name: str, key: Hashable) -> list[Task]:
        keys = self._models[name]
        taken, left = self._batch(keys[key])
        if taken[0].sharing is not None:
            self._running[name] += 1
        self._size -= len(taken)
        if left:
            keys[key] = left
            keys.move_to_end(key)
        else:
            del keys[key]
        if keys:
            self._models.move_to_end(name)
        else:
            del self._models[name]
        return taken

    def _batch(self, tasks: deque[Task]) -> tuple[list[Task], deque[Task]]:
        """The oldest task with all that fit to it, and those that do not."""
        taken, left = [tasks[0]], deque()
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
                left.append(task)
        return taken, left
