"""The best trials of a search as a table in the terminal."""

import rich.box
import rich.console
import rich.table
from rich.text import Text

from keras_dl.tuning.results import TrialResult, clock, leaderboard, number, searched


def print_leaderboard(results: list[TrialResult], objective: str, direction: str, rows: int = 10, console=None) -> None:
    """Prints rank, trial, hyperparameters, score with spread, best epoch and duration of the best trials.

    Only hyperparameters that differ between trials have a column; the others are printed below. Nothing is printed if
    no trial has completed.

    Args:
        results: list of `TrialResult`.
        objective: str, the name of the score's column.
        direction: `"min"` or `"max"`.
        rows: int, the maximum number of rows. Defaults to 10.
        console: `rich.console.Console`. Defaults to standard output.
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
