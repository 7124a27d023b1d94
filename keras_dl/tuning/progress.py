"""The table that a search shows while it runs."""

import time

import keras
import rich.console
import rich.live
import rich.table


class SearchTable:
    """One row a trial: its values, the best epoch's objective, the best so far, its time, and the time left.

    On a terminal the table is redrawn in place after every epoch; elsewhere (a log file) a line is printed a trial.

    Args:
        objective: str, the column's name.
        direction: `"min"` or `"max"`.
        trials: int, how many are planned.
        epochs: int, of one trial.
        console: `rich.console.Console`. Defaults to one on standard output.
    """

    def __init__(self, objective: str, direction: str, trials: int, epochs: int, console=None):
        self.objective, self.direction, self.trials, self.epochs = objective, direction, trials, epochs
        self.console = console or rich.console.Console()
        self.rows, self.seconds, self.best = [], [], None
        self.live = rich.live.Live(console=self.console, auto_refresh=False, transient=False)

    def __enter__(self):
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *error):
        if self.console.is_terminal:
            self.live.stop()

    def resume(self, trials):
        """Shows the trials that an earlier run of the search finished."""
        for trial in trials:
            self._open(trial, began=None)
            self.end(trial)

    def begin(self, trial):
        self._open(trial, time.monotonic())
        self._draw()

    def _open(self, trial, began):
        values = {name: value for name, value in trial.hyperparameters.values.items() if "/" not in name}
        self.began = began
        row = {"number": len(self.rows) + 1, "values": values, "state": "running", "score": None, "best": self.best}
        self.rows.append({**row, "seconds": 0.0})

    def epoch(self, number, logs):
        """Tells of a finished epoch, counted from 1."""
        row = self.rows[-1]
        value = logs.get(self.objective)
        if value is not None and (row["score"] is None or self._better(value, row["score"])):
            row["score"] = float(value)
        row["state"] = f"epoch {number}/{self.epochs}"
        row["seconds"] = time.monotonic() - self.began
        self._draw()

    def callback(self):
        """A Keras callback that tells this table of every epoch."""
        return _Epochs(self)

    def end(self, trial):
        row = self.rows[-1]
        row["state"], row["score"] = trial.status.lower(), trial.score if trial.status == "COMPLETED" else None
        if trial.status != "COMPLETED" and trial.message:
            reason = trial.message.strip().splitlines()[-1]
            self.console.print(f"trial {row['number']} {row['state']}: {reason}", markup=False, highlight=False)
        if self.began is not None:
            row["seconds"] = time.monotonic() - self.began
            self.seconds.append(row["seconds"])
        if row["score"] is not None and (self.best is None or self._better(row["score"], self.best)):
            self.best = row["score"]
        row["best"] = self.best
        self._draw()
        if not self.console.is_terminal:
            self._print_row(row)

    def left(self) -> float | None:
        """Seconds until the last trial ends, by the mean of those that ended; None before the first."""
        if not self.seconds:
            return None
        running = self.rows[-1]["state"].startswith(("running", "epoch"))
        mean = sum(self.seconds) / len(self.seconds)
        waiting = max(self.trials - len(self.rows), 0)
        return waiting * mean + (max(mean - self.rows[-1]["seconds"], 0) if running else 0)

    def _better(self, a, b):
        return a < b if self.direction == "min" else a > b

    def _cells(self, row):
        values = [_number(row["values"].get(name)) for name in self._hyperparameters()]
        score, best = _number(row["score"]), _number(row["best"])
        return [f"{row['number']}/{self.trials}", *values, score, best, _clock(row["seconds"]), row["state"]]

    def _names(self):
        return ["trial", *self._hyperparameters(), self.objective, "best so far", "time", "state"]

    def _hyperparameters(self):
        return list(dict.fromkeys(name for row in self.rows for name in row["values"]))

    def _draw(self):
        if not self.console.is_terminal:
            return
        left = self.left()
        caption = "about " + _clock(left) + " left" if left else None
        table = rich.table.Table(*self._names(), caption=caption, caption_justify="left", box=rich.box.SIMPLE_HEAD)
        for row in self.rows:
            best = row["score"] is not None and row["score"] == self.best
            table.add_row(*self._cells(row), style="bold green" if best else None)
        self.live.update(table, refresh=True)

    def _print_row(self, row):
        names = [*self._names(), "time left"]
        left = self.left()
        cells = [*self._cells(row), _clock(left) if left else "-"]
        widths = [max(len(name), 9) for name in names]
        for line in [names, cells] if len(self.rows) == 1 else [cells]:
            print("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)), flush=True)


class _Epochs(keras.callbacks.Callback):
    def __init__(self, table):
        super().__init__()
        self.table = table

    def on_epoch_end(self, epoch, logs=None):
        self.table.epoch(epoch + 1, logs)


def _number(value) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _clock(seconds) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
