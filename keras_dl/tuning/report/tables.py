"""Tables of a search in the terminal: its progress while it runs, and the best trials at its end."""

import dataclasses
import heapq
import threading
import time

import rich.box
import rich.console
import rich.live
import rich.table
from rich.text import Text

from keras_dl.tuning.results import (
    SECONDS,
    STOPPED,
    TrialResult,
    clock,
    last_line,
    last_value,
    leaderboard,
    number,
    searched,
    shown_values,
)

REDRAW = 0.25  # minimum seconds between two redraws, which together take less than 1% of a core


@dataclasses.dataclass
class Row:
    """A trial in the table."""

    number: int
    values: dict
    worker: str | None = None
    state: str = "running"
    score: float | None = None
    best: float | None = None
    seconds: float | None = 0.0
    epochs: int = 0
    began: float | None = None  # monotonic time, minus the seconds of an earlier process; None after the end


class SearchTable:
    """One row per trial: its values, the best epoch's objective, the best so far, its time, and the time left.

    On a terminal, a thread redraws the table in place, at most four times a second; otherwise (a log file) one line is
    printed per trial. If 2 or more workers are expected, a column shows the worker of each trial. Thread-safe. `trials`
    is the planned number of trials, `epochs` the number of epochs per trial. Every hyperparameter of `space`, a list of
    Keras Tuner's, has a column from the start; others get one when a trial has them.
    """

    def __init__(
        self, objective: str, direction: str, trials: int, epochs: int, console=None, workers: int = 1, space=()
    ):
        self.objective, self.direction, self.trials, self.epochs = objective, direction, trials, epochs
        self.widths = {}
        for entry in space:
            shown = [len(number(value)) for value in entry.values] if type(entry).__name__ == "Choice" else [0]
            self.widths[entry.name] = max(self.widths.get(entry.name, 0), *shown)
        self.console, self.several = console or rich.console.Console(), workers > 1
        self.rows: dict[str, Row] = {}  # by trial id
        self.seconds, self.best = [], None
        self.last_ended = {}  # worker -> when its last trial ended
        self._lock = threading.RLock()
        self._header = None  # the names that were printed
        self._live = rich.live.Live(console=self.console, auto_refresh=False, transient=False)
        self._closed, self._drawer = threading.Event(), None

    def __enter__(self):
        if self.console.is_terminal:
            self._live.start()
            self._drawer = threading.Thread(target=self._keep_drawing, name="search table", daemon=True)
            self._drawer.start()
        return self

    def __exit__(self, *error):
        if self._drawer:
            self._closed.set()
            self._drawer.join()
            self.draw()
            self._live.stop()

    def resume(self, trials):
        """Adds the trials of an earlier process, finished and unfinished."""
        for trial in trials:
            row = self._open(trial, worker=None)
            if trial.status == "RUNNING":
                continue
            row.began, row.seconds = None, last_value(trial, SECONDS)
            self._close(row, trial)

    def begin(self, trial, worker: str | None = None):
        """Adds a trial that a worker starts, or resumes after its last finished epoch."""
        self._open(trial, worker)

    def epoch(self, trial_id: str, number: int, score: float | None):
        """Records a finished epoch, counted from 1, and its objective."""
        with self._lock:
            row = self.rows[trial_id]
            if score is not None and self._better(score, row.score):
                row.score = float(score)
            row.state = f"epoch {number}/{row.epochs}"

    def end(self, trial):
        """Records the end of a trial: status, score and message, and the time if it is among the metrics."""
        with self._lock:
            row = self.rows[trial.trial_id]
            seconds = last_value(trial, SECONDS)
            row.seconds = time.monotonic() - row.began if seconds is None else seconds
            row.began = None
            self.last_ended[row.worker] = time.monotonic()
            self._close(row, trial)

    def left(self) -> float | None:
        """Estimates the seconds until the last trial ends, from the mean time of a trial; None before the first end.

        Each waiting trial is assigned to the worker that is free first. A worker counts while it has a trial and, after
        that, for the mean time of a trial.
        """
        with self._lock:
            if not self.seconds:
                return None
            mean, now = sum(self.seconds) / len(self.seconds), time.monotonic()
            running = [row for row in self.rows.values() if row.began is not None]
            free = [max(mean - (now - row.began), 0.0) for row in running]
            busy = {row.worker for row in running}
            free += [0.0 for worker, ended in self.last_ended.items() if worker not in busy and now - ended < mean]
            free = free or [0.0]
            heapq.heapify(free)
            for _ in range(self.trials - len(self.rows)):
                heapq.heapreplace(free, free[0] + mean)
            return max(free)

    def _open(self, trial, worker):
        with self._lock:
            self.several |= worker is not None and any(row.worker not in (None, worker) for row in self.rows.values())
            row = self.rows.get(trial.trial_id)
            spent = last_value(trial, SECONDS) or 0.0
            if row is not None and row.began is not None:  # its worker was lost; the same or another one resumes it
                spent = time.monotonic() - row.began
            values = shown_values(trial)
            row = Row(int(trial.trial_id) + 1, values, worker, best=self.best, began=time.monotonic() - spent)
            row.epochs = trial.hyperparameters.values.get("tuner/epochs", self.epochs)
            self.rows[trial.trial_id] = row
            history = trial.metrics.get_history(self.objective) if trial.metrics.exists(self.objective) else []
            for point in history:
                self.epoch(trial.trial_id, point.step + 1, point.value[0])
            return row

    def _close(self, row, trial):
        with self._lock:
            row.state, row.score = trial.status.lower(), trial.score if trial.status == "COMPLETED" else None
            if last_value(trial, STOPPED):
                row.state = "stopped"  # early, and scored by its epochs so far
            if row.seconds is not None:
                self.seconds.append(row.seconds)
            if row.score is not None and self._better(row.score, self.best):
                self.best = row.score
            row.best = self.best
            if trial.status != "COMPLETED" and trial.message:
                reason = f"trial {row.number} {row.state}: {last_line(trial.message)}"
                self.console.print(reason, markup=False, highlight=False)
            if not self.console.is_terminal:
                self._print(row)

    def _better(self, new, old):
        if new != new:
            return False
        return old is None or (new < old if self.direction == "min" else new > old)

    def _names(self):
        values = dict.fromkeys([*self.widths, *(name for row in self.rows.values() for name in row.values)])
        return ["trial", *values, self.objective, "best so far", "time", "state"] + ["worker"] * self.several, values

    def _cells(self, row, names):
        values = [number(row.values.get(name)) for name in names]
        seconds = row.seconds if row.began is None else time.monotonic() - row.began
        worker = [row.worker or "-"] * self.several
        first = f"{row.number}/{self.trials}"
        return [first, *values, number(row.score), number(row.best), clock(seconds), row.state, *worker]

    def _print(self, row):
        names, values = self._names()
        left = self.left()
        names, cells = [*names, "time left"], [*self._cells(row, values), clock(left) if left else "-"]
        widths = [max(len(name), self.widths.get(name, 0), 9) for name in names]
        for line in [cells] if self._header == names else [names, cells]:
            print("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)), flush=True)
        self._header = names

    def draw(self):
        """Draws the table."""
        with self._lock:
            names, values = self._names()
            shown = self._shown()
            left = self.left()
            caption = [f"about {clock(left)} left"] if left else []
            caption += [f"{len(self.rows) - len(shown)} more trials"] if len(shown) < len(self.rows) else []
            rows = [(self._cells(row, values), row.score is not None and row.score == self.best) for row in shown]
        table = rich.table.Table(caption=", ".join(caption) or None, caption_justify="left", box=rich.box.SIMPLE_HEAD)
        for name in names:
            table.add_column(Text(name), no_wrap=True)
        for cells, best in rows:
            table.add_row(*map(Text, cells), style="bold green" if best else None)
        self._live.update(table, refresh=True)

    def _shown(self):
        """Returns the rows that fit on the terminal: running trials, the best five, and the latest."""
        room = max(self.console.height - 5, 7)  # without the lines around the rows
        rows = list(self.rows.values())
        if len(rows) <= room:
            return rows
        running = [row for row in rows if row.began is not None]
        ended = [row for row in rows if row.began is None and row.score is not None]
        best = sorted(ended, key=lambda row: row.score if self.direction == "min" else -row.score)[:5]
        chosen = list(dict.fromkeys(row.number for row in best[:1] + running + best + rows[::-1]))[:room]
        return [row for row in rows if row.number in chosen]

    def _keep_drawing(self):
        pause = 0.0
        while not self._closed.wait(pause):
            before = time.thread_time()
            self.draw()
            pause = max(REDRAW, 150 * (time.thread_time() - before))


def print_leaderboard(results: list[TrialResult], objective: str, direction: str, rows: int = 10, console=None) -> None:
    """Prints rank, trial, hyperparameters, score with spread, best epoch and duration of the best trials.

    Only hyperparameters that differ between trials have a column; the others are printed below. Nothing is printed if
    no trial has completed. The console defaults to standard output.
    """
    console = console or rich.console.Console()
    ranked = leaderboard(results, direction)
    if not ranked:
        return
    names = searched(ranked)
    header = ["rank", "trial", *names, objective, "best epoch", "time"]
    lines = [
        [str(rank), str(one.number), *(number(one.values.get(name)) for name in names)]
        + [one.shown_score, number(one.best_epoch), clock(one.seconds)]
        for rank, one in enumerate(ranked[:rows], start=1)
    ]
    notes = [f"{len(ranked) - rows} more completed trials"] if len(ranked) > rows else []
    same = ", ".join(f"{name} {number(value)}" for name, value in ranked[0].values.items() if name not in names)
    notes += [f"the same in all trials: {same}"] if same else []
    if console.is_terminal:
        table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
        for name in header:
            table.add_column(Text(name))
        for rank, line in enumerate(lines):
            table.add_row(*map(Text, line), style="bold green" if rank == 0 else None)
        console.print(table)
    else:
        widths = [max(len(line[column]) for line in [header, *lines]) for column in range(len(header))]
        for line in [header, *lines]:
            text = "  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True))
            console.print(text, markup=False, highlight=False, soft_wrap=True)
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
