"""The contents of the progress table, on a terminal and in a log file, and of the leaderboard."""

import io
import re
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import keras_tuner as kt
import pytest
import rich.console
from keras_tuner.src.engine.trial import Trial

from keras_dl.tuning.report import tables
from keras_dl.tuning.report.tables import SearchTable, print_leaderboard
from keras_dl.tuning.results import SECONDS, TrialResult

RESULTS = [
    TrialResult(1, "00", {"units": 8, "rate": 0.00123456, "filters": 32}, "COMPLETED", 0.5, seconds=61, best_epoch=3),
    TrialResult(2, "01", {"units": 16, "rate": 0.1, "filters": 32}, "FAILED", message="ValueError: [x]"),
    TrialResult(3, "02", {"units": 16, "rate": 0.1, "filters": 32}, "COMPLETED", 0.25, 0.0312, 5, best_epoch=1),
]


@pytest.fixture
def clock(monkeypatch):
    """A clock in seconds that the test sets."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(tables, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def trial(number=1, status="RUNNING", score=None, message=None, curve=(), seconds=None, **values):
    """A trial of Keras Tuner, whose ids start at 0."""
    hp = kt.HyperParameters()
    hp.values = values or {"units": 16, "rate": 0.01}
    made = Trial(hp, f"{number - 1:02d}", status, message)
    made.score = score
    for step, value in enumerate(curve):
        made.metrics.update("val_loss", value, step)
    if seconds is not None:
        made.metrics.update(SECONDS, seconds)
    return made


def table(direction="min", trials=3, epochs=2, workers=1):
    console = rich.console.Console(force_terminal=False, file=io.StringIO(), width=120)
    return SearchTable("val_loss", direction, trials, epochs, console, workers)


def run(table, clock, number, score, seconds, worker=None, **values):
    """Runs a trial of two epochs; the objective of the second is `score`."""
    one = trial(number, **values)
    table.begin(one, worker)
    clock.now += seconds / 2
    table.epoch(one.trial_id, 1, 0.9)
    clock.now += seconds / 2
    table.epoch(one.trial_id, 2, score)
    one.status, one.score = "COMPLETED", score
    table.end(one)


def last(table):
    return list(table.rows.values())[-1]


def test_a_row_shows_the_result_of_a_trial(clock):
    shown = table()
    run(shown, clock, 1, 0.5, seconds=10, units=8, rate=0.1)
    row = shown.rows["00"]
    assert (row.number, row.values, row.state) == (1, {"units": 8, "rate": 0.1}, "completed")
    assert (row.score, row.best, row.seconds) == (0.5, 0.5, 10)


@pytest.mark.parametrize("direction, best", [("min", [0.5, 0.5, 0.2]), ("max", [0.5, 0.7, 0.7])])
def test_the_best_so_far(clock, direction, best):
    shown = table(direction)
    for number, score in enumerate((0.5, 0.7, 0.2), start=1):
        run(shown, clock, number, score, seconds=2)
    assert [row.best for row in shown.rows.values()] == best and shown.best == best[-1]


@pytest.mark.parametrize("direction, best", [("min", [0.9, 0.4, 0.4]), ("max", [0.9, 0.9, 0.9])])
def test_the_best_epoch_of_a_running_trial_is_shown(clock, direction, best):
    shown = table(direction, epochs=3)
    shown.begin(trial())
    assert (last(shown).state, last(shown).score) == ("running", None)
    seen = []
    for epoch, value in enumerate((0.9, 0.4, 0.6), start=1):
        shown.epoch("00", epoch, value)
        seen.append(last(shown).score)
        assert last(shown).state == f"epoch {epoch}/3"
    assert seen == best
    assert shown.best is None  # only finished trials count


def test_nan_is_never_the_best(clock):
    shown = table()
    shown.begin(trial())
    for epoch, value in enumerate((float("nan"), 0.4, float("nan"), None), start=1):
        shown.epoch("00", epoch, value)
    assert last(shown).score == 0.4


def test_a_failed_trial_has_no_score_and_its_reason_is_printed(clock):
    shown = table()
    run(shown, clock, 1, 0.5, seconds=2)
    shown.begin(trial(2))
    shown.epoch("01", 1, 0.1)
    message = "Traceback (most recent call last):\n  ...\nFailedTrialError: [loss] is nan in epoch 2\n"
    shown.end(trial(2, "FAILED", 0.1, message))
    assert (last(shown).state, last(shown).score, last(shown).best) == ("failed", None, 0.5)
    assert shown.console.file.getvalue() == "trial 2 failed: FailedTrialError: [loss] is nan in epoch 2\n"


def test_trials_of_several_workers_are_independent(clock):
    shown = table(trials=4)
    shown.begin(trial(1), "a")
    assert not shown.several
    shown.begin(trial(2), "b")
    assert shown.several
    shown.epoch("00", 1, 0.7)
    shown.epoch("01", 1, 0.6)
    shown.epoch("00", 2, 0.5)
    assert [(row.state, row.score) for row in shown.rows.values()] == [("epoch 2/2", 0.5), ("epoch 1/2", 0.6)]
    shown.end(trial(1, "COMPLETED", 0.5))
    assert [row.state for row in shown.rows.values()] == ["completed", "epoch 1/2"]


def test_a_resumed_trial_keeps_its_epochs_and_its_time(clock):
    shown = table(epochs=5)
    shown.begin(trial(1, curve=(0.9, 0.4, 0.6), seconds=30.0))
    assert (last(shown).state, last(shown).score) == ("epoch 3/5", 0.4)
    clock.now += 20
    shown.end(trial(1, "COMPLETED", 0.4))
    assert last(shown).seconds == 50


def test_a_worker_that_restarts_keeps_its_row(clock):
    shown = table()
    shown.begin(trial(1), "a")
    clock.now += 7
    shown.begin(trial(1, curve=(0.9,)), "a")
    assert len(shown.rows) == 1 and last(shown).state == "epoch 1/2"
    clock.now += 3
    shown.end(trial(1, "COMPLETED", 0.4))
    assert last(shown).seconds == 10


def test_the_seconds_reported_by_the_trial_are_used(clock):
    shown = table()
    shown.begin(trial(1))
    clock.now += 3
    shown.end(trial(1, "COMPLETED", 0.4, seconds=44.0))
    assert last(shown).seconds == 44


def test_a_trial_of_hyperband_has_its_own_number_of_epochs(clock):
    shown = table(epochs=9)
    shown.begin(trial(1, units=8, **{"tuner/epochs": 3}))
    shown.epoch("00", 1, 0.5)
    assert last(shown).state == "epoch 1/3" and last(shown).values == {"units": 8}


def test_the_time_left(clock):
    shown = table(trials=4)
    assert shown.left() is None
    run(shown, clock, 1, 0.5, seconds=10)
    assert shown.left() == 30
    run(shown, clock, 2, 0.5, seconds=20)
    assert shown.left() == 30  # two trials of 15 on average
    shown.begin(trial(3))
    assert shown.left() == 30
    clock.now += 6
    assert shown.left() == 24
    clock.now += 60  # longer than the mean: the waiting trial still needs 15
    assert shown.left() == 15
    clock.now += 12
    shown.end(trial(3, "COMPLETED", 0.5))
    assert shown.left() == pytest.approx((10 + 20 + 78) / 3)
    run(shown, clock, 4, 0.5, seconds=1)
    assert shown.left() == 0


def test_the_time_left_of_several_workers(clock):
    shown = table(trials=6)
    shown.begin(trial(1), "a")
    shown.begin(trial(2), "b")
    clock.now += 10
    shown.end(trial(1, "COMPLETED", 0.5))
    assert shown.left() == 20  # b is expected to end now; four trials wait for two workers
    shown.begin(trial(3), "a")
    shown.end(trial(2, "COMPLETED", 0.5))
    shown.begin(trial(4), "b")
    assert shown.left() == 20
    clock.now += 4
    assert shown.left() == 16


def test_a_worker_without_a_trial_for_long_is_not_counted(clock):
    shown = table(trials=4)
    shown.begin(trial(1), "a")
    shown.begin(trial(2), "b")
    clock.now += 10
    shown.end(trial(1, "COMPLETED", 0.5))
    shown.end(trial(2, "COMPLETED", 0.5))
    clock.now += 6
    shown.begin(trial(3), "a")
    clock.now += 1
    assert shown.left() == 10  # b is expected to take trial 4
    clock.now += 4
    assert shown.left() == 15  # b is no longer counted: trial 4 waits for a


def test_trials_of_an_earlier_process(clock):
    shown = table(trials=5)
    earlier = [trial(1, "COMPLETED", 0.3), trial(2, "FAILED"), trial(3, curve=(0.8,), status="RUNNING")]
    shown.resume(earlier)
    assert [row.state for row in shown.rows.values()] == ["completed", "failed", "epoch 1/2"]
    assert shown.best == 0.3 and shown.left() is None  # their time is unknown
    shown.epoch("02", 2, 0.2)  # its worker continues with this process
    clock.now += 4
    shown.end(trial(3, "COMPLETED", 0.2))
    run(shown, clock, 4, 0.5, seconds=8)
    assert shown.seconds == [4, 8] and last(shown).number == 4


def test_the_known_time_of_earlier_trials_counts_for_the_time_left(clock):
    shown = table(trials=3)
    shown.resume([trial(1, "COMPLETED", 0.3, seconds=60.0)])
    assert shown.rows["00"].seconds == 60 and shown.left() == 120


def test_several_threads_can_report_at_once():
    shown = table(trials=400)

    def worker(first):
        for number in range(first, 401, 8):
            shown.begin(trial(number), str(first))
            for epoch in range(1, 6):
                shown.epoch(f"{number - 1:02d}", epoch, 1 / (number + epoch))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(worker, range(1, 9)))
    assert len(shown.rows) == 400
    assert all(row.score == 1 / (row.number + 5) and row.state == "epoch 5/2" for row in shown.rows.values())


def test_a_log_file_has_one_line_per_trial(clock, capsys):
    with table() as shown:
        run(shown, clock, 1, 0.123456, seconds=70, units=8, rate=0.001, cell="lstm")
        assert len(capsys.readouterr().out.splitlines()) == 2
        run(shown, clock, 2, 0.5, seconds=10, units=16, rate=0.012345, cell="gru")
        (line,) = capsys.readouterr().out.splitlines()
    assert line.split() == ["2/3", "16", "0.01235", "gru", "0.5", "0.1235", "0:10", "completed", "0:40"]
    assert "\x1b" not in line and shown.console.file.getvalue() == ""


def test_the_columns_of_a_log_file_are_aligned_with_their_names(clock, capsys):
    with table() as shown:
        run(shown, clock, 1, 0.5, seconds=3700, units=8)
    names, line = capsys.readouterr().out.splitlines()
    assert re.split(r"\s{2,}", names.strip()) == [
        "trial", "units", "val_loss", "best so far", "time", "state", "time left"
    ]  # fmt: skip
    assert line.split() == ["1/3", "8", "0.5", "0.5", "1:01:40", "completed", "2:03:20"]
    assert [match.end() for match in re.finditer(r"\S+(?: \S+)*", names)] == [
        match.end() for match in re.finditer(r"\S+", line)
    ]


def test_conditional_columns_keep_their_place_in_a_log_file(clock, capsys):
    hp = kt.HyperParameters()
    hp.Choice("kind", ["a", "a longer name"])
    hp.Int("units", 4, 8)
    with hp.conditional_scope("kind", ["a longer name"]):
        hp.Int("filters", 2, 3)
    with table(workers=1, trials=4) as shown:
        for entry in hp.space:
            shown.widths |= SearchTable("val_loss", "min", 4, 2, space=[entry]).widths
        run(shown, clock, 1, 0.5, seconds=10, kind="a", units=5)
        run(shown, clock, 2, 0.5, seconds=10, filters=3, kind="a longer name", units=6)
        run(shown, clock, 3, 0.5, seconds=10, kind="a", units=7, extra=1)  # not in the space before
        run(shown, clock, 4, 0.5, seconds=10, kind="a", units=8)
    first, one, two, second, three, four = capsys.readouterr().out.splitlines()
    assert first.split()[:5] == ["trial", "kind", "units", "filters", "val_loss"]
    assert one.split()[:5] == ["1/4", "a", "5", "-", "0.5"] and two.split()[:7] == "2/4 a longer name 6 3 0.5".split()
    ends = [line.index(text) + len(text) for line, text in ((first, "filters"), (one, "-"), (two, " 3"))]
    assert len(set(ends)) == 1
    assert second.split()[:6] == ["trial", "kind", "units", "filters", "extra", "val_loss"]
    assert [line.split()[4] for line in (three, four)] == ["1", "-"]


def test_a_log_file_shows_the_workers_if_several_are_expected(clock, capsys):
    with table(workers=2) as shown:
        run(shown, clock, 1, 0.5, seconds=10, worker="worker-2", units=8)
    names, line = capsys.readouterr().out.splitlines()
    assert names.split()[-4:] == ["state", "worker", "time", "left"]
    assert line.split() == ["1/3", "8", "0.5", "0.5", "0:10", "completed", "worker-2", "0:20"]


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
