"""The language model pipeline on a short text."""

import argparse
from pathlib import Path

FILE = Path(__file__).parents[2] / "pipelines" / "python_source.py"


def test_end_to_end(run_end_to_end, tmp_path):
    text = Path(argparse.__file__).read_text(encoding="utf-8")[:30_000]
    (tmp_path / "text.py").write_text(text, encoding="utf-8")
    artifacts, _ = run_end_to_end(FILE, "--data", str(tmp_path / "text.py"), units=96, depth=1, batch_size=64)
    assert {"bits_per_character.png", "samples.txt"} < artifacts
