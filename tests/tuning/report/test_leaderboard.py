"""The leaderboard in the terminal."""

import io

import pytest
import rich.console

from keras_dl.tuning.report.leaderboard import print_leaderboard
from keras_dl.tuning.results import TrialResult

RESULTS = [
    TrialResult(1, "00", {"units": 8, "rate": 0.00123456, "filters": 32}, "COMPLETED", 0.5, seconds=61, best_epoch=3),
    TrialResult(2, "01", {"units": 16, "rate": 0.1, "filters": 32}, "FAILED", message="ValueError: [x]"),
    TrialResult(3, "02", {"units": 16, "rate": 0.1, "filters": 32}, "COMPLETED", 0.25, 0.0312, 5, best_epoch=1),
]


def printed(results=RESULTS, direction="min", rows=10, terminal=False, width=100):
    console = rich.console.Console(force_terminal=terminal, file=io.StringIO(), width=width, color_system=None)
    print_leaderboard(results, "val_loss", direction, rows, console)
    return console.file.getvalue().splitlines()


def test_the_best_trial_is_first():
    header, first, second, note = printed()
    assert header.split() == ["rank", "trial", "units", "rate", "val_loss", "best", "epoch", "time"]
    assert first.split() == ["1", "3", "16", "0.1", "0.25", "±", "0.031", "1", "0:05"]
    assert second.split() == ["2", "1", "8", "0.001235", "0.5", "3", "1:01"]
    assert note == "the same in all trials: filters 32"
    assert len(header) == len(first) == len(second)


def test_the_direction_decides_the_order():
    assert [line.split()[1] for line in printed(direction="max")[1:3]] == ["1", "3"]


def test_a_terminal_shows_the_same_as_a_table():
    text = "\n".join(printed(terminal=True))
    for word in ("rank", "val_loss", "0.25 ± 0.031", "0.001235", "1:01", "the same in all trials: filters 32"):
        assert word in text
    assert text.index("0.25 ±") < text.index("0.5")


@pytest.mark.parametrize("terminal", [False, True])
def test_values_are_not_parsed_as_markup(terminal):
    results = [TrialResult(i, f"0{i}", {"[/]": f"[red]{i}"}, "COMPLETED", 0.5) for i in (1, 2)]
    text = "\n".join(printed(results, terminal=terminal))
    assert "[/]" in text and "[red]1" in text and "[red]2" in text


def test_lines_in_a_log_file_are_not_wrapped():
    results = [TrialResult(i, f"0{i}", {"name": "x" * 200 + str(i)}, "COMPLETED", 0.5) for i in (1, 2)]
    assert len(printed(results, width=80)) == 3


def test_the_number_of_rows_is_limited():
    results = [TrialResult(i + 1, f"{i:02d}", {"units": i}, "COMPLETED", i / 10) for i in range(15)]
    lines = printed(results, rows=4)
    assert len(lines) == 6 and lines[-1] == "11 more completed trials"


@pytest.mark.parametrize("results", [[], RESULTS[1:2]])
def test_without_a_completed_trial_nothing_is_printed(results):
    assert printed(results) == []
