"""The translation pipeline on a few invented pairs."""

from pathlib import Path

FILE = Path(__file__).parents[2] / "pipelines" / "translation.py"


def test_end_to_end(run_end_to_end, tmp_path):
    lines = [f"{first} {second}\t{second} {first}" for first in "abcdefgh" for second in ("one", "two", "three")]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines) + "\n")
    data = ("--data", str(tmp_path / "pairs.tsv"))
    artifacts, printed = run_end_to_end(FILE, *data, units=128, batch_size=128, subwords=1000)
    assert "translations.txt" in artifacts
    assert "\nBLEU " in printed
