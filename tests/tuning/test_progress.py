"""The table of a search, in a log file and on a terminal."""

import io
import re
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import rich.console

from keras_dl.tuning import progress
from keras_dl.tuning.progress import SearchTable


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds, to be set by hand."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def trial(values=None, status="RUNNING", score=None, message=None):
    hyperparameters = SimpleNamespace(values=values or {"units": 16, "rate": 0.01})
    return SimpleNamespace(hyperparameters=hyperparameters, status=status, score=score, message=message)


def console(terminal, width=120):
    return rich.console.Console(force_terminal=terminal, file=io.StringIO(), width=width, color_system=None)


def table(direction="min", trials=3, epochs=2, terminal=False):
    return SearchTable("val_loss", direction, trials, epochs, console(terminal))


def run(table, clock, score, seconds, **values):
    """One trial of two epochs; the second one's objective is `score`."""
    one = trial(values or None)
    table.begin(one)
    clock.now += seconds / 2
    table.epoch(1, {"loss": 1.0, "val_loss": 0.9})
    clock.now += seconds / 2
    table.epoch(2, {"loss": 1.0, "val_loss": score})
    one.status, one.score = "COMPLETED", score
    table.end(one)


def test_a_row_says_what_became_of_a_trial(clock):
    shown = table()
    run(shown, clock, 0.5, seconds=10, units=8, rate=0.1)
    (row,) = shown.rows
    assert row == {
        "number": 1, "values": {"units": 8, "rate": 0.1}, "state": "completed", "score": 0.5, "best": 0.5, "seconds": 10
    }  # fmt: skip


@pytest.mark.parametrize("direction, best", [("min", [0.5, 0.5, 0.2]), ("max", [0.5, 0.7, 0.7])])
def test_the_best_so_far(clock, direction, best):
    shown = table(direction)
    for score in (0.5, 0.7, 0.2):
        run(shown, clock, score, seconds=2)
    assert [row["best"] for row in shown.rows] == best and shown.best == best[-1]


@pytest.mark.parametrize("direction, best", [("min", [0.9, 0.4, 0.4]), ("max", [0.9, 0.9, 0.9])])
def test_while_a_trial_runs_its_best_epoch_is_shown(clock, direction, best):
    shown = table(direction, epochs=3)
    shown.begin(trial())
    assert (shown.rows[-1]["state"], shown.rows[-1]["score"]) == ("running", None)
    seen = []
    for epoch, value in enumerate((0.9, 0.4, 0.6), start=1):
        clock.now += 1
        shown.epoch(epoch, {"val_loss": value})
        seen.append(shown.rows[-1]["score"])
        assert shown.rows[-1]["state"] == f"epoch {epoch}/3" and shown.rows[-1]["seconds"] == epoch
    assert seen == best
    assert shown.best is None  # only finished trials count there


def test_a_failed_trial_has_no_score_and_its_reason_is_told(clock):
    shown = table()
    run(shown, clock, 0.5, seconds=2)
    failed = trial()
    shown.begin(failed)
    shown.epoch(1, {"val_loss": 0.1})
    failed.status, failed.score = "FAILED", 0.1
    failed.message = "Traceback (most recent call last):\n  ...\nFailedTrialError: [loss] is nan in epoch 2\n"
    shown.end(failed)
    assert (shown.rows[-1]["state"], shown.rows[-1]["score"], shown.rows[-1]["best"]) == ("failed", None, 0.5)
    assert shown.console.file.getvalue() == "trial 2 failed: FailedTrialError: [loss] is nan in epoch 2\n"


def test_an_epoch_without_the_objective_is_no_fault(clock):
    shown = table()
    shown.begin(trial())
    shown.epoch(1, {"loss": 0.1})
    assert shown.rows[-1]["score"] is None


def test_the_time_left(clock):
    shown = table(trials=4)
    assert shown.left() is None
    run(shown, clock, 0.5, seconds=10)
    assert shown.left() == 30
    run(shown, clock, 0.5, seconds=20)
    assert shown.left() == 30  # two trials of 15 on average
    shown.begin(trial())
    assert shown.left() == 30
    clock.now += 6
    shown.epoch(1, {"val_loss": 0.5})
    assert shown.left() == 24
    clock.now += 60  # longer than the mean: never less than what the waiting ones need
    shown.epoch(2, {"val_loss": 0.5})
    assert shown.left() == 15
    clock.now += 12
    shown.end(trial(status="COMPLETED", score=0.5))
    assert shown.left() == pytest.approx((10 + 20 + 78) / 3)
    run(shown, clock, 0.5, seconds=1)
    assert shown.left() == 0


def test_trials_of_an_earlier_run_are_shown_and_do_not_count_for_the_time(clock):
    shown = table(trials=3)
    shown.resume([trial(status="COMPLETED", score=0.3), trial(status="FAILED")])
    assert [row["state"] for row in shown.rows] == ["completed", "failed"]
    assert shown.best == 0.3 and shown.left() is None
    run(shown, clock, 0.5, seconds=8)
    assert (shown.rows[-1]["number"], shown.rows[-1]["best"]) == (3, 0.3)
    assert shown.seconds == [8]


def test_what_keras_tuner_adds_is_not_shown(clock):
    shown = table()
    run(shown, clock, 0.5, seconds=2, units=8, **{"tuner/epochs": 3})
    assert shown.rows[0]["values"] == {"units": 8}


def test_in_a_log_file_there_is_a_line_a_trial(clock, capsys):
    with table() as shown:
        run(shown, clock, 0.123456, seconds=70, units=8, rate=0.001, cell="lstm")
        assert len(capsys.readouterr().out.splitlines()) == 2
        run(shown, clock, 0.5, seconds=10, units=16, rate=0.012345, cell="gru")
        (line,) = capsys.readouterr().out.splitlines()
    assert line.split() == ["2/3", "16", "0.01235", "gru", "0.5", "0.1235", "0:10", "completed", "0:40"]
    assert "\x1b" not in line and shown.console.file.getvalue() == ""


def test_the_columns_of_a_log_file_stand_below_their_names(clock, capsys):
    with table() as shown:
        run(shown, clock, 0.5, seconds=3700, units=8)
    names, line = capsys.readouterr().out.splitlines()
    assert re.split(r"\s{2,}", names.strip()) == [
        "trial", "units", "val_loss", "best so far", "time", "state", "time left"
    ]  # fmt: skip
    assert line.split() == ["1/3", "8", "0.5", "0.5", "1:01:40", "completed", "2:03:20"]
    assert [match.end() for match in re.finditer(r"\S+(?: \S+)*", names)] == [
        match.end() for match in re.finditer(r"\S+", line)
    ]


def test_on_a_terminal_the_table_is_redrawn(clock, capsys):
    with table(terminal=True) as shown:
        run(shown, clock, 0.5, seconds=10, units=8)
        first = shown.console.file.getvalue()
        shown.begin(trial({"units": 16}))
    text = shown.console.file.getvalue()
    for word in ("units", "val_loss", "best so far", "1/3", "epoch 1/2", "completed", "about 0:20 left"):
        assert word in first
    assert "\x1b[2K" in first  # lines are taken back
    last = text[len(first) :]
    assert "2/3" in last and "running" in last
    assert text.count("epoch 2/2") == 1
    assert capsys.readouterr().out == ""


def test_the_terminal_is_given_back_after_an_error(clock):
    with pytest.raises(KeyboardInterrupt), table(terminal=True) as shown:
        shown.begin(trial())
        raise KeyboardInterrupt
    assert not shown.live.is_started
    assert shown.console.file.getvalue().endswith("\x1b[?25h")  # the cursor


def test_values_that_only_some_trials_have_leave_a_gap(clock):
    with table(terminal=True) as shown:
        run(shown, clock, 0.5, seconds=2, cell="lstm")
        run(shown, clock, 0.4, seconds=2, cell="esn", radius=0.9)
    drawn = shown.console.file.getvalue().rpartition("best so far")
    header, rows = drawn[0].splitlines()[-1], drawn[2].splitlines()
    assert header.split()[:3] == ["trial", "cell", "radius"]
    assert ["1/3", "lstm", "-"] in [row.split()[:3] for row in rows]
    assert ["2/3", "esn", "0.9"] in [row.split()[:3] for row in rows]


def test_the_callback_tells_the_table_of_every_epoch(clock):
    shown = table(epochs=2)
    shown.begin(trial())
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    x = np.ones((2, 1), "float32")
    history = model.fit(x, x, validation_data=(x, x), epochs=2, verbose=0, callbacks=[shown.callback()]).history
    assert shown.rows[-1]["state"] == "epoch 2/2"
    assert shown.rows[-1]["score"] == min(history["val_loss"])


@pytest.mark.parametrize(
    "seconds, shown", [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3599, "59:59"), (3600, "1:00:00")]
)
def test_the_clock(seconds, shown):
    assert progress._clock(seconds) == shown
