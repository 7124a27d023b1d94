"""The order of waiting tasks."""

import math
from concurrent.futures import Future
from types import SimpleNamespace

import pytest

from keras_dl.serving.server.queue import Task, WaitingTasks
from keras_dl.serving.server.sharing import Sharing


@pytest.fixture
def tasks():
    """tasks(...): a queue, by default with batches of two rows and two concurrent batches per model."""

    def make(max_batch_size=2, max_padding=0.5, max_batches=2, max_runs=100, wait_seconds=0.0):
        return WaitingTasks(max_batch_size, max_padding, max_batches, max_runs, wait_seconds)

    return make


def task(name, key="key", submitted=0.0, shares=True, rows=1, length=0):
    model = SimpleNamespace(name=name)
    sharing = Sharing() if shares else None
    return Task(model, "", {}, sharing, key, rows, length, "Predict", submitted, math.inf, Future())


def names(taken):
    return [f"{task.model.name}{task.key}" for task in taken]


def test_models_take_turns_and_so_do_their_keys(tasks):
    waiting = tasks(max_batches=100)
    for name, key in [("a", 1)] * 4 + [("a", 2)] * 2 + [("b", 3)] * 3:
        waiting.add(task(name, key))
    taken = [names(waiting.take(0.0)) for _ in range(5)]
    assert taken == [["a1", "a1"], ["b3", "b3"], ["a2", "a2"], ["b3"], ["a1", "a1"]]
    assert waiting.take(0.0) == [] and waiting.count("a") == waiting.count("b") == 0 and waiting.ready_at() == math.inf


def test_batches_of_a_model_are_limited_and_single_runs_are_not(tasks):
    waiting = tasks(max_batches=1)
    may_start = [waiting.add(task("a")) for _ in range(4)]
    first = waiting.take(0.0)
    assert may_start == [True] * 4 and len(first) == 2
    assert waiting.take(0.0) == [] and waiting.ready_at() == math.inf
    assert not waiting.add(task("a"))
    assert waiting.add(task("b")) and names(waiting.take(0.0)) == ["bkey"]
    for number in range(3):
        assert waiting.add(task("a", number, shares=False))
        assert len(waiting.take(0.0)) == 1
    waiting.finished(first)
    assert len(waiting.take(0.0)) == 2


@pytest.mark.parametrize("shares", [True, False])
def test_all_runs_of_a_model_are_limited_and_leave_threads_to_others(tasks, shares):
    waiting = tasks(max_batches=1, max_runs=2)
    for number in range(2):
        assert waiting.add(task("a", number, shares=False))
    running = [waiting.take(0.0) for _ in range(2)]
    assert not waiting.add(task("a", "next", shares=shares))
    assert waiting.take(0.0) == [] and waiting.ready_at() == math.inf
    assert waiting.add(task("b", shares=False)) and names(waiting.take(0.0)) == ["bkey"]
    waiting.finished(running[0])
    assert names(waiting.take(0.0)) == ["anext"]


def test_removed_tasks_are_neither_counted_nor_taken(tasks):
    waiting = tasks(max_batch_size=1)
    first, second, alone = task("a"), task("a"), task("a", "alone", shares=False)
    for one in (first, second, alone):
        waiting.add(one)
    assert waiting.count("a") == 3 and waiting.count("b") == 0
    waiting.remove(first)
    waiting.remove(first)
    waiting.remove(alone)
    assert waiting.count("a") == 1
    assert waiting.take(0.0) == [second] and waiting.take(0.0) == []
    waiting.remove(second)
    assert waiting.count("a") == 0 and waiting.ready_at() == math.inf


def test_an_incomplete_batch_is_ready_when_its_oldest_task_has_waited(tasks):
    waiting = tasks(max_batch_size=3, wait_seconds=10.0)
    for submitted in (1.0, 5.0):
        waiting.add(task("a", submitted=submitted))
    assert waiting.take(10.9) == [] and waiting.ready_at() == 11.0
    waiting.add(task("a", submitted=6.0))
    assert len(waiting.take(6.0)) == 3
    waiting.add(task("a", submitted=7.0, shares=False))
    assert len(waiting.take(7.0)) == 1


def test_the_oldest_task_is_taken_first_and_small_ones_fill_the_batch(tasks):
    waiting = tasks(max_batch_size=4)
    for rows in (3, 2, 1, 9, 1):
        waiting.add(task("a", rows=rows))
    assert [[task.rows for task in waiting.take(0.0)] for _ in range(2)] == [[3, 1], [2, 1]]
    waiting = tasks(max_batch_size=4)
    waiting.add(task("a", rows=9))
    assert len(waiting.take(0.0)) == 1  # runs alone
