"""`keras-dl init` starts a project, and its example works."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from keras_dl.errors import UserError
from keras_dl.new_project import pipeline_files, start_project
from keras_dl.pipeline import load_pipeline
from keras_dl.space import space
from keras_dl.tracking.settings import default_file, read_settings

ROOT = Path(__file__).parents[1]


def files(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_new_project_has_settings_a_pipeline_and_a_folder_for_models(tmp_path, capsys):
    folder = tmp_path / "deep" / "mine"
    start_project(folder)
    content = files(folder)
    assert set(content) == {"mlflow.yaml", "pipelines/waves.py", "saved_models/README.md"}
    assert content["mlflow.yaml"] == default_file()
    assert content["pipelines/waves.py"] == (ROOT / "keras_dl" / "starter" / "waves.py").read_text()
    output = capsys.readouterr().out
    assert output.count("written") == 3
    assert output.endswith(f"next: cd {folder} && keras-dl tune pipelines/waves.py\n")
    assert read_settings(folder).root == folder


def test_repeating_init_keeps_every_file(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start_project(Path("."))
    (tmp_path / "mlflow.yaml").write_text("ui: {port: 7000}\n")
    (tmp_path / "pipelines" / "waves.py").unlink()
    (tmp_path / "pipelines" / "mine.py").write_text("# mine\n")
    capsys.readouterr()
    start_project(Path("."))
    content = files(tmp_path)
    assert content["mlflow.yaml"] == "ui: {port: 7000}\n" and content["pipelines/mine.py"] == "# mine\n"
    assert "class Waves" in content["pipelines/waves.py"]
    output = capsys.readouterr().out
    assert (output.count("kept"), output.count("written")) == (2, 1)
    assert output.endswith("next: keras-dl tune pipelines/waves.py\n")


def test_an_unwritable_folder_is_reported(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file/mine/mlflow\.yaml: Not a directory"):
        start_project(tmp_path / "file" / "mine")


def test_the_guide_contains_the_starter_unchanged():
    guide = (ROOT / "pipelines" / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```$", guide, flags=re.DOTALL | re.MULTILINE)
    assert block == (ROOT / "keras_dl" / "starter" / "waves.py").read_text(encoding="utf-8")


def test_the_starter_is_a_pipeline(tmp_path):
    start_project(tmp_path)
    pipeline = load_pipeline(tmp_path / "pipelines" / "waves.py")
    hp = space(pipeline)
    assert hp.values == {"batch_size": 32, "units": 16, "dropout": 0.1, "learning_rate": 0.01}
    assert pipeline.goal.test_metric == ("accuracy", "max")


@pytest.mark.slow
def test_the_starter_reaches_its_documented_accuracy(tmp_path, monkeypatch):
    start_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    command = [sys.executable, "-m", "keras_dl.cli", "tune", "pipelines/waves.py"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    (accuracy,) = re.findall(r"^test   accuracy (\S+)", answer.stdout, flags=re.MULTILINE)
    assert float(accuracy) > 0.92


def test_another_pipeline_of_the_project(tmp_path, capsys):
    start_project(tmp_path, "digits_ctc")
    assert files(tmp_path)["pipelines/digits_ctc.py"] == (ROOT / "pipelines" / "digits_ctc.py").read_text()
    assert capsys.readouterr().out.endswith("keras-dl tune pipelines/digits_ctc.py\n")
    names = {path.stem for path in (ROOT / "pipelines").glob("*.py")}
    assert set(pipeline_files()) == {"waves", *names} and len(names) > 5


def test_an_unknown_pipeline_lists_the_known_ones(tmp_path):
    with pytest.raises(UserError, match="no pipeline 'digits'. Available: waves, digits_ctc, "):
        start_project(tmp_path / "new", "digits")
    assert not (tmp_path / "new").exists()
