"""keras-dl export --check: exit status 0, 1 or 2, with and without a pipeline."""

import shutil

from keras_dl.cli import main


def test_an_export_is_checked_alone_and_against_its_version(halves, run, error, capfd):
    run("train", "pipelines/halves.py")
    folder = halves.saved_models / "halves" / "1"
    assert "loads in a process without keras_dl" in run("export", "--check", str(folder))
    compared = run("export", "pipelines/halves.py", "--model", "1", "--check", str(folder))
    assert compared.startswith("compared with halves version 1\n")
    assert "gives the same answers as the Keras model: " in compared
    assert error("export", "--check", str(folder.parent)).endswith("Subfolders with a SavedModel: 1")
    shutil.rmtree(folder / "variables")
    capfd.readouterr()
    assert main(["export", "--check", str(folder)]) == 1
    assert "error: variables/: the weights are missing" in capfd.readouterr().out


def test_missing_arguments_raise_an_error(halves, error):
    assert error("export") == "export requires a pipeline FILE, or --check DIR"
    assert error("export", "--check", "nowhere").startswith("no folder nowhere: --check requires")
    assert error("export", "pipelines/halves.py", "--check", "mlflow.db").startswith("no folder mlflow.db")
