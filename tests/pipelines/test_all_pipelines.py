"""Every pipeline has an end-to-end test; those whose parts are tested elsewhere have theirs here.

The end-to-end tests of pipelines that resemble another one are slow tests.
"""

import argparse
from pathlib import Path

import pytest

from keras_dl.pipeline import load_pipeline
from keras_dl.training.job import check_space

PIPELINES = Path(__file__).parents[2] / "pipelines"


@pytest.mark.parametrize("file", sorted(PIPELINES.glob("*.py")), ids=lambda file: file.stem)
def test_the_pipeline_is_tested_end_to_end(file):
    test = Path(__file__).with_name(f"test_{file.stem}.py")
    here = f'run_end_to_end(PIPELINES / "{file.name}", ' in Path(__file__).read_text(encoding="utf-8")
    assert here or "run_end_to_end(FILE, " in test.read_text(encoding="utf-8")


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text.py").write_text(Path(argparse.__file__).read_text(encoding="utf-8")[:30_000], encoding="utf-8")
    return str(tmp_path / "text.py")


@pytest.fixture
def pairs(tmp_path):
    lines = [f"{first} {second}\t{second} {first}" for first in "abcdefgh" for second in ("one", "two", "three")]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines) + "\n")
    return str(tmp_path / "pairs.tsv")


@pytest.mark.parametrize(
    ("name", "data", "values"),
    [("python_source", "text", {"units": 96, "depth": 1}), ("translation", "pairs", {"units": 128, "subwords": 1000})],
)
def test_what_follows_training_works_with_an_untrained_model(name, data, values, request):
    pipeline = load_pipeline(PIPELINES / f"{name}.py")
    pipeline.source = request.getfixturevalue(data)
    assert check_space(pipeline, values).values.items() >= values.items()


@pytest.mark.slow
def test_a_language_model_of_a_short_text(run_end_to_end, text):
    options = {"units": 96, "depth": 1, "batch_size": 64}
    artifacts, _ = run_end_to_end(PIPELINES / "python_source.py", "--data", text, **options)
    assert {"bits_per_character.png", "samples.txt"} < artifacts


@pytest.mark.slow
def test_the_translation_of_a_few_invented_pairs(run_end_to_end, pairs):
    options = {"units": 128, "batch_size": 128, "subwords": 1000}
    artifacts, printed = run_end_to_end(PIPELINES / "translation.py", "--data", pairs, **options)
    assert "translations.txt" in artifacts
    assert "\nBLEU " in printed
