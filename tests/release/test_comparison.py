"""The table that compares two versions."""

import re

import mlflow
import pytest

from keras_dl.errors import UserError
from keras_dl.release import registry
from keras_dl.release.comparison import compare
from keras_dl.tracking.runs import connect

from . import versions


@pytest.fixture
def register(project, monkeypatch):
    """register(values, error, ...): registers a version of digits."""
    monkeypatch.setenv("COLUMNS", "120")
    connect(project, "digits")

    def run(values, error, fingerprint="f" * 64, **options):
        metrics = {"test_error": error, "test_loss": 2 * error, "best_val_error": error}
        options |= {"values": values, "metrics": metrics, "fingerprint": fingerprint}
        versions.register(project, "digits", error, **options)

    return run


def rows(output):
    """Returns {first cell: list of the other cells}."""
    cells = [re.split(r"  +", line.strip()) for line in output.splitlines() if line.strip()]
    return {first: rest for first, *rest in cells}


def test_champion_and_challenger(project, register, capsys):
    register({"rate": 0.1, "units": 16, "cell": "lstm"}, 0.25)
    register({"rate": 0.2, "units": 16, "depth": 2}, 0.2, spread=0.125)
    (project.saved_models / "digits" / "1").mkdir(parents=True)
    (project.saved_models / "digits" / ".withdrawn-2").mkdir()
    compare(project, "digits")
    output = capsys.readouterr().out
    found = rows(output)
    assert found["digits"] == ["1 champion", "2 challenger"]
    assert found["error"] == ["0.25", "0.2", "*"] and found["spread"] == ["-", "0.125", "*"]
    assert found["test data"] == ["ffffffffffff", "ffffffffffff"]
    assert found["exported"] == ["yes", "withdrawn", "*"]
    assert found["rate"] == ["0.1", "0.2", "*"] and found["units"] == ["16", "16"]
    assert found["cell"] == ["lstm", "-", "*"] and found["depth"] == ["-", "2", "*"]
    assert found["test_error"] == ["0.25", "0.2", "*"] and found["test_loss"] == ["0.5", "0.4", "*"]
    assert "best_val_error" not in found
    assert found["run"][:2] == [registry.get_version("digits", number).run_id for number in (1, 2)]
    reason = "error 0.2 beats the champion's 0.25 by no more than the noise, 0.12"
    assert output.endswith(f"\nversion 2 does not replace version 1: {reason}\n")


def test_a_small_difference_is_shown_with_all_digits(project, register, capsys):
    register({"rate": 0.1}, 0.25)
    register({"rate": 0.1000001}, 0.25, fingerprint="e" * 64)
    compare(project, "digits", "2", "1")
    found = rows(capsys.readouterr().out)
    assert found["digits"] == ["2 challenger", "1 champion"]
    assert found["rate"] == ["0.1000001", "0.1", "*"]
    assert found["error"] == ["0.25", "0.25"]
    assert found["test data"] == ["eeeeeeeeeeee", "ffffffffffff", "*"]


def test_a_version_without_our_tags_is_shown_without_a_verdict(project, register, capsys):
    register({"rate": 0.1}, 0.25)
    register({"rate": 0.2}, 0.125)
    for tag in ("metric", "value", "direction", "fingerprint", "why"):
        mlflow.MlflowClient().delete_model_version_tag("digits", "1", tag)
    compare(project, "digits", "1", "2")
    output = capsys.readouterr().out
    assert rows(output)["error"] == ["-", "0.125", "*"] and "replace" not in output


def test_missing_versions_are_rejected(project, register):
    register({"rate": 0.1}, 0.25)
    with pytest.raises(UserError, match="^digits has only one version, 1; expected at least two to compare$"):
        compare(project, "digits")
    with pytest.raises(UserError, match="^digits has no version '2' in the registry. Available: 1 champion$"):
        compare(project, "digits", "1", "2")
    with pytest.raises(UserError, match="^no model 'nosuch' in the registry. Available: digits$"):
        compare(project, "nosuch")


def test_without_a_challenger_the_previous_champion_is_shown(project, register, capsys):
    register({"rate": 0.1}, 0.25)
    register({"rate": 0.2}, 0.125)
    compare(project, "digits")
    output = capsys.readouterr().out
    assert rows(output)["digits"] == ["2 champion", "1"]
    assert output.endswith("version 1 does not replace version 2: error 0.25 does not beat the champion's 0.125\n")
