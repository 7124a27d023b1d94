"""The results of a search: metrics and tables in its run, and the HTML report."""

import html
import json

import pytest

from keras_dl.tuning.plan import Plan
from keras_dl.tuning.report.outcome import trial_runs
from keras_dl.tuning.search import search

from ..halves import GRID, curve, fits, runs, text_of, write_pipeline


def test_the_run_has_a_table_of_the_trials(searched):
    settings, _ = searched
    (parent,) = runs(settings)
    table = json.loads(text_of(parent, "trials.json"))
    assert set(table["columns"]) == {"trial", "batch_size", "units", "rate", "cell", "bias", "val_loss"}
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["trial"] for row in rows] == [1, 2, 3]
    for row, fit, run in zip(rows, fits(settings), runs(settings, parent), strict=True):
        assert row["val_loss"] == pytest.approx(min(curve(settings, run).values()), rel=1e-6)
        assert (row["units"], row["rate"]) == (fit["units"], pytest.approx(fit["rate"], rel=1e-6))


@pytest.mark.parametrize("name", ["search.png", "learning_curves.png"])
def test_the_run_has_figures(searched, name):
    settings, _ = searched
    (parent,) = runs(settings)
    path = parent.info.artifact_uri.removeprefix("file://") + "/" + name
    with open(path, "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"


def test_the_report_is_stored_in_the_project_and_in_the_run(searched):
    settings, version = searched
    (parent,) = runs(settings)
    page = (settings.root / "searches" / "halves.html").read_text()
    assert text_of(parent, "halves.html") == page
    assert "halves: random search" in page and parent.info.run_id in page
    assert f"version {version.version}, champion: the first version" in page


def test_the_run_has_the_metrics_of_the_best_epoch(searched):
    settings, _ = searched
    (parent,) = runs(settings)
    (best,) = [run for run in runs(settings, parent) if run.info.run_name == parent.data.tags["best_trial"]]
    epoch = int(best.data.tags["best_epoch"]) - 1
    for metric in ("loss", "accuracy", "val_accuracy"):
        assert parent.data.metrics[f"best_{metric}"] == curve(settings, best, metric)[epoch]


def test_trial_runs_finds_the_run_of_each_trial(searched, connected):
    (parent,) = runs(connected)
    expected = {str(number): run.info.run_id for number, run in enumerate(runs(connected, parent))}
    assert trial_runs(parent.info.run_id) == expected
    (other,) = [run for run in runs(connected, parent) if run.data.tags["trial"] == "1"]
    assert trial_runs(other.info.run_id) == {}


def test_a_second_search_is_compared_with_the_champion(project, without_drawing, capsys):
    pipeline = write_pipeline(project.root)
    plan = Plan(tuner="grid", trials=1, pins=GRID)
    search(pipeline, project, plan)
    capsys.readouterr()
    second = search(pipeline, project, plan)
    assert (second.version, second.alias) == (2, "challenger")
    page = (project.root / "searches" / "halves.html").read_text()
    assert "version 2" in page and "version 1" in page and second.why in html.unescape(page)
    output = capsys.readouterr().out
    assert "1/1" in output
    assert f"report {project.root / 'searches' / 'halves.html'}" in output
    assert "export skipped, the champion stays" in output
