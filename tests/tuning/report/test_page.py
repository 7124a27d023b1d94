"""The HTML report of a search, parsed as a browser does."""

import base64
import hashlib
import html.parser
import xml.etree.ElementTree as ElementTree

import keras_tuner as kt
import numpy as np
import pytest

from keras_dl.tuning.report.page import Comparison, report
from keras_dl.tuning.results import TrialResult

EVIL = "<script>alert('\"x\"')</script> & $a$"


class Page(html.parser.HTMLParser):
    """A parser that collects the elements and texts of a page.

    Attributes:
        tags: list of (name, attributes).
        cells: the texts of the cells of each table, row by row.
        text: the text of the page, without styles and scripts.
    """

    VOID = {"meta", "img", "br", "link"}

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.cells, self.parts, self.script = [], [], [], [], ""
        self.feed(page)
        self.close()
        assert self.open == []  # every element is closed
        self.text = " ".join(" ".join(self.parts).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.cells.append([])
        elif tag == "tr":
            self.cells[-1].append([])
        elif tag in ("td", "th"):
            self.cells[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.script += data
        elif self.open and self.open[-1] != "style":
            self.parts.append(data)
            if "td" in self.open or "th" in self.open:
                self.cells[-1][-1][-1] += data.strip()


@pytest.fixture(scope="module")
def space():
    hp = kt.HyperParameters()
    hp.Float("rate", 1e-4, 1e-1, sampling="log")
    hp.Choice("cell", ["lstm", "gru"])
    hp.Fixed("filters", 32)
    return hp


def trials(count, failed=(), seed=0):
    generator, made = np.random.default_rng(seed), []
    for number in range(1, count + 1):
        values = {"rate": float(10 ** generator.uniform(-4, -1)), "cell": ["lstm", "gru"][number % 2], "filters": 32}
        score = float(0.01 + (np.log10(values["rate"]) + 2) ** 2 / 10)
        common = {"number": number, "trial_id": f"{number - 1:02d}", "values": values, "seconds": 60.0}
        if number in failed:
            message = "Traceback (most recent call last):\n  in fit\nFailedTrialError: loss is nan"
            made.append(TrialResult(**common, status="FAILED", message=message))
            continue
        curve = (3 * score, score, 2 * score)
        metrics = {"val_loss": score, "latency": float(number)}
        made.append(TrialResult(**common, status="COMPLETED", score=score, best_epoch=2, curve=curve, metrics=metrics))
    return made


def read(results, space, **options):
    return Page(report("a search", results, space, "val_loss", "min", **options))


def headings(page):
    return [name for name in HEADINGS if name in page.text]


HEADINGS = [
    "Comparison with the champion",
    "Leaderboard",
    "Pareto front",
    "Failed trials",
    "Learning curves",
    "Importance of hyperparameters",
    "Score by hyperparameter",
    "Parallel coordinates",
    "Time per trial",
    "Details",
]


@pytest.fixture(scope="module")
def whole(space):
    """A page with every section."""
    comparison = Comparison(
        "version 4", "version 2", "0.01 beats 0.02", {"test_loss": (0.0123456, 0.02)}, {"cell": ("lstm", None)}
    )
    facts = {"command": "keras-dl tune x.py", "test data": "8f3a11d0"}
    directions = {"val_loss": "min", "latency": "min"}
    return read(trials(12, failed=[5]), space, directions=directions, comparison=comparison, facts=facts)


def test_the_page_has_every_section(whole):
    assert headings(whole) == HEADINGS
    assert "completed 11 failed 1 time in trials 12:00" in whole.text
    assert "command keras-dl tune x.py test data 8f3a11d0" in whole.text


def test_the_best_trial_is_first_in_the_leaderboard(whole, space):
    board = next(table for table in whole.cells if table[0][0] == "rank")
    assert board[0] == ["rank", "trial", "val_loss", "latency", "rate", "cell", "best epoch", "time"]
    best = min((one for one in trials(12, failed=[5]) if one.completed), key=lambda one: one.score)
    assert board[1] == [
        "1", str(best.number), f"{best.score:.4g}", str(best.number), f"{best.values['rate']:.4g}",
        best.values["cell"], "2", "1:00",
    ]  # fmt: skip
    assert len(board) == 12 and "5" not in [row[1] for row in board]
    assert f"Best trial: {best.number}, epoch 2:" in whole.text
    assert "The same in all trials: filters 32" in whole.text


def test_numbers_are_sorted_by_their_exact_value_and_text_as_shown(whole):
    best = min((one for one in trials(12, failed=[5]) if one.completed), key=lambda one: one.score)
    start = next(place for place, (tag, a) in enumerate(whole.tags) if a.get("class") == "first")
    cells = [attributes for tag, attributes in whole.tags[start:] if tag == "td"][:8]
    keys = [attributes.get("data-key") for attributes in cells]
    assert keys[2] == str(best.score) and keys[4] == str(best.values["rate"])
    assert keys[5] is None and keys[7] == "60.0"


def test_the_champion_is_compared_with_the_new_version(whole):
    assert whole.cells[0] == [
        ["", "version 4", "version 2"], ["test_loss", "0.01235", "0.02"], ["cell", "lstm", "-"]
    ]  # fmt: skip
    assert "0.01 beats 0.02" in whole.text


def test_a_failed_trial_is_shown_with_its_reason_and_traceback(whole):
    (table,) = [table for table in whole.cells if "reason" in table[0]]
    _, (number, reason, values, seconds) = table
    assert (number, seconds) == ("5", "1:00") and values.startswith("rate 0.")
    assert reason.startswith("FailedTrialError: loss is nan") and "in fit" in reason


def test_the_pareto_front_has_a_table(whole):
    front = [table for table in whole.cells if table[0][:2] == ["trial", "val_loss"]]
    assert len(front) == 1 and len(front[0]) > 1
    assert "latency: lower is better" in whole.text


def test_pictures_are_embedded_with_alternative_texts(whole):
    pictures = [attributes for tag, attributes in whole.tags if tag == "img"]
    assert len(pictures) == 7  # curves, importance, two slices, parallel coordinates, times, the front
    for picture in pictures:
        kind, _, content = picture["src"].partition(";base64,")
        assert kind == "data:image/svg+xml" and picture["alt"]
        assert ElementTree.fromstring(base64.b64decode(content)).tag.endswith("svg")
    assert any(picture["alt"].startswith("importance: rate ") for picture in pictures)


def test_the_page_loads_nothing(whole):
    for tag, attributes in whole.tags:
        assert tag not in ("link", "iframe", "object", "base", "form")
        for name, value in attributes.items():
            assert name not in ("href", "srcset", "action") and not name.startswith("on")
            assert name != "src" or value.startswith("data:")


def test_the_page_allows_only_its_own_script(whole):
    (policy,) = [a["content"] for tag, a in whole.tags if a.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256(whole.script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert [tag for tag, _ in whole.tags].count("script") == 1


def test_names_values_and_messages_are_escaped():
    hp = kt.HyperParameters()
    hp.Choice(EVIL, [EVIL, "b"])
    results = [
        TrialResult(i + 1, f"{i:02d}", {EVIL: [EVIL, "b"][i % 2]}, "COMPLETED", i / 10, seconds=1.0, curve=(1.0, 2.0))
        for i in range(2)
    ]
    results.append(TrialResult(11, "10", {EVIL: EVIL}, "FAILED", message=f"Error: {EVIL}"))
    comparison = Comparison(EVIL, EVIL, EVIL, {EVIL: (1.0, 2.0)}, {EVIL: (EVIL, EVIL)})
    page = Page(report(EVIL, results, hp, EVIL, "min", comparison=comparison, facts={EVIL: EVIL}))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "alert" not in page.script and page.text.count("alert") > 10


def test_without_any_trial(space):
    page = read([], space)
    assert headings(page) == [] and page.cells == []
    assert "No trial has completed." in page.text and "best val_loss none" in page.text


def test_when_all_trials_failed(space):
    page = read(trials(3, failed=[1, 2, 3]), space)
    assert headings(page) == ["Failed trials", "Time per trial"]
    assert "No trial has completed: all failed." in page.text


def test_one_trial(space):
    page = read(trials(1), space)
    assert headings(page) == ["Leaderboard", "Learning curves"]


def test_a_running_trial_is_counted(space):
    page = read([*trials(1), TrialResult(3, "02", {"rate": 0.01}, "RUNNING")], space)
    assert "unfinished 1" in page.text


def test_an_infinite_score_counts_as_a_failure(space):
    odd = TrialResult(4, "03", {"rate": 0.01}, "COMPLETED", float("inf"), curve=(float("nan"), float("inf"), -1.0))
    page = read([*trials(1), odd], space)
    (table,) = [table for table in page.cells if "reason" in table[0]]
    assert table[1][:2] == ["4", "val_loss is inf"]
    assert "completed 1 failed 1" in page.text


def test_very_long_values_are_truncated():
    hp = kt.HyperParameters()
    hp.Choice("text", ["x" * 100_000, "y"])
    results = [
        TrialResult(i + 1, f"{i:02d}", {"text": hp.space[0].values[i % 2]}, "COMPLETED", 0.1 * i) for i in (0, 1)
    ]
    page = read(results, hp)
    assert max(len(cell) for table in page.cells for row in table for cell in row) <= 130
    assert len(page.text) < 5000


def test_noise_is_not_reported_as_importance(space):
    generator = np.random.default_rng(3)
    results = [
        TrialResult(i + 1, f"{i:02d}", {"rate": float(10 ** generator.uniform(-4, -1))}, "COMPLETED", float(score))
        for i, score in enumerate(generator.normal(size=12))
    ]
    page = read(results, space)
    assert "do not show which hyperparameters matter" in page.text
    assert not any(attributes.get("alt", "").startswith("importance") for _, attributes in page.tags)


@pytest.mark.slow
def test_five_hundred_trials(space):
    page = report("a search", trials(500, failed=range(7, 500, 11)), space, "val_loss", "min")
    assert len(page) < 3e6
    assert len(max(Page(page).cells, key=len)) == 500 - 45 + 1


def test_the_same_search_gives_the_same_page(space):
    pages = {report("a search", trials(1), space, "val_loss", "min") for _ in range(2)}
    assert len(pages) == 1 and "data:image/svg" in pages.pop()
