"""Every pipeline of the repository has an end-to-end test."""

from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[2] / "pipelines").glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_pipeline_is_tested_end_to_end(file):
    test = Path(__file__).with_name(f"test_{file.stem}.py")
    assert "run_end_to_end(FILE, " in test.read_text(encoding="utf-8")
