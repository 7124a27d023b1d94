"""The wheel works without the checkout, and its description is valid on a package index."""

import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Imports every public module of the installed package, then starts a project with one of its pipelines.
USE = """
import importlib, pkgutil, sys
import keras_dl
from keras_dl.cli import main

assert keras_dl.__file__.startswith(sys.argv[1]), keras_dl.__file__
skipped = ("keras_dl.pipelines", "keras_dl.serving.export.clean_worker")
names = [module.name for module in pkgutil.walk_packages(keras_dl.__path__, "keras_dl.")]
for name in names:
    if not name.startswith(skipped):
        importlib.import_module(name)
assert len(names) > 200
sys.exit(main(["init", "project", "--pipeline", "digits_ctc"]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of its files."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("keras_dl", "pipelines"):
        shutil.copytree(ROOT / name, source / name, ignore=ignore)
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(source)], check=True)
    (file,) = folder.glob("*.whl")
    return file


def test_the_wheel_works_without_the_checkout(wheel, tmp_path):
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", str(site), str(wheel)]
    subprocess.run(command, check=True)
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r})\n{USE}", str(site)]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    written = tmp_path / "project" / "pipelines" / "digits_ctc.py"
    assert written.read_text() == (ROOT / "pipelines" / "digits_ctc.py").read_text()


def test_every_data_file_of_the_package_is_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {f"keras_dl/{path.relative_to(ROOT / 'keras_dl')}" for path in (ROOT / "keras_dl").rglob("*.*")}
    files = {name for name in files if "__pycache__" not in name}
    assert files - names == set()
    assert {f"keras_dl/pipelines/{path.name}" for path in (ROOT / "pipelines").glob("*.py")} < names


def test_the_long_description_has_no_relative_links(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
    text = metadata.get_payload()
    assert text.startswith("# keras_dl") and "keras-dl tune" in text
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert re.findall(r"\]\((?!https?:)[^)]*\)", text) == []
