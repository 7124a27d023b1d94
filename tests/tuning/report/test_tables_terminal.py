"""The progress table on a terminal."""

import io
import time

import keras_tuner as kt
import pytest
import rich.console
from keras_tuner.src.engine.trial import Trial

from keras_dl.tuning.report import tables
from keras_dl.tuning.report.tables import SearchTable


def trial(number, status="RUNNING", score=None, **values):
    hp = kt.HyperParameters()
    hp.values = values or {"units": 16}
    made = Trial(hp, f"{number - 1:02d}", status)
    made.score = score
    return made


def table(trials=3, epochs=2, height=25, width=120):
    console = rich.console.Console(
        force_terminal=True, file=io.StringIO(), width=width, height=height, color_system=None
    )
    return SearchTable("val_loss", "min", trials, epochs, console)


def complete(table, number, score, worker=None, **values):
    table.begin(trial(number, **values), worker)
    table.end(trial(number, "COMPLETED", score, **values))


@pytest.fixture
def drawn_by_hand(monkeypatch):
    """Disables the thread that redraws the table."""
    monkeypatch.setattr(SearchTable, "_keep_drawing", lambda self: None)


def drawn(table):
    """Draws the table and returns its lines."""
    before = len(table.console.file.getvalue())
    table.draw()
    return table.console.file.getvalue()[before:].split("\n")


def numbers(lines):
    """Returns the numbers of the trials that have a row."""
    return [int(line.split("/")[0].split()[-1]) for line in lines if "/" in line]


def until(true, seconds=10):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_table_is_redrawn_in_place_by_a_thread(capsys):
    with table() as shown:
        complete(shown, 1, 0.5, units=8)
        shown.begin(trial(2))
        until(lambda: "running" in shown.console.file.getvalue())
        shown.epoch("01", 1, 0.6)
        until(lambda: "epoch 1/2" in shown.console.file.getvalue())
    text = shown.console.file.getvalue()
    for word in ("units", "val_loss", "best so far", "1/3", "2/3", "completed", "about 0:00 left"):
        assert word in text
    assert "\x1b[2K" in text  # erases lines
    assert capsys.readouterr().out == ""


def test_the_table_is_drawn_at_the_end():
    with table(trials=1) as shown:
        complete(shown, 1, 0.25)
    assert "completed" in shown.console.file.getvalue() and not shown._drawer.is_alive()


def test_the_terminal_is_restored_after_an_error():
    with pytest.raises(KeyboardInterrupt), table() as shown:
        shown.begin(trial(1))
        raise KeyboardInterrupt
    assert not shown._live.is_started
    assert shown.console.file.getvalue().endswith("\x1b[?25h")  # shows the cursor


def test_a_value_that_a_trial_lacks_is_shown_as_a_dash(drawn_by_hand):
    shown = table()
    with shown:
        complete(shown, 1, 0.5, cell="lstm")
        complete(shown, 2, 0.4, cell="esn", radius=0.9)
        lines = drawn(shown)
    (header,) = [line for line in lines if "best so far" in line]
    assert header.split()[:3] == ["trial", "cell", "radius"]
    assert ["1/3", "lstm", "-"] in [line.split()[:3] for line in lines]
    assert ["2/3", "esn", "0.9"] in [line.split()[:3] for line in lines]


def test_values_are_not_parsed_as_markup(drawn_by_hand):
    with table() as shown:
        complete(shown, 1, 0.5, layers="[8, 8]", style="[red]", end="[/]")
        text = "\n".join(drawn(shown))
    assert "[8, 8]" in text and "[red]" in text and "[/]" in text


def test_workers_are_shown_if_there_are_several(drawn_by_hand):
    with table() as shown:
        complete(shown, 1, 0.5, worker="host-a")
        assert "worker" not in "\n".join(drawn(shown))
        complete(shown, 2, 0.5, worker="host-b")
        text = "\n".join(drawn(shown))
    assert "worker" in text and "host-a" in text and "host-b" in text


def test_a_low_terminal_shows_the_running_the_best_and_the_latest_trials(drawn_by_hand):
    with table(trials=60, height=20) as shown:
        shown.begin(trial(1), "a")  # running
        for number in range(2, 51):
            complete(shown, number, abs(number - 20), worker="b")
        lines = drawn(shown)
    assert numbers(lines) == [1, 18, 19, 20, 21, 22, *range(42, 51)]
    assert len(lines) <= 20
    assert "35 more trials" in lines[-1]


def test_with_more_workers_than_rows_the_best_is_still_shown(drawn_by_hand):
    with table(trials=60, height=12) as shown:
        complete(shown, 1, 0.5)
        for number in range(2, 30):
            shown.begin(trial(number), str(number))
        assert 1 in numbers(drawn(shown)) and len(drawn(shown)) <= 12


def test_drawing_takes_at_most_one_percent_of_the_time(monkeypatch):
    pauses, shown = [], table()
    monkeypatch.setattr(shown._closed, "wait", lambda pause: pauses.append(pause) or len(pauses) > 3)
    spent = iter([0.0, 0.001, 1.0, 1.5, 2.0, 2.0])
    with monkeypatch.context() as patch:
        patch.setattr(tables.time, "thread_time", lambda: next(spent))
        shown._keep_drawing()
    assert pauses == [0.0, pytest.approx(0.25), pytest.approx(75), pytest.approx(0.25)]
