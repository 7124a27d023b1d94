"""promote, rollback and compare from the command line, without TensorFlow."""

import os
import subprocess
import sys

import mlflow
import pytest

from keras_dl.cli import main
from keras_dl.release import registry
from keras_dl.tracking.runs import connect, open_run

COMMAND = """
import sys
from keras_dl.cli import main
status = main(sys.argv[1:])
assert not {"tensorflow", "keras", "keras_tuner"} & set(sys.modules), "imported"
sys.exit(status)
"""


@pytest.fixture
def digits(project):
    """Two champions of digits in turn, both exported."""
    connect(project, "digits")
    for version, value in (("1", 0.5), ("2", 0.25)):
        with open_run(project, "train") as run:
            mlflow.log_dict({"rate": value}, "values.json")
            client = mlflow.MlflowClient()
            logged = client.create_logged_model(run.info.experiment_id, source_run_id=run.info.run_id)
            client.finalize_logged_model(logged.model_id, "READY")
        registry.register(project, "digits", logged.model_uri, "error", value, "min", "same")
        (project.saved_models / "digits" / version).mkdir(parents=True)
    return project


def champion():
    return int(registry.get_version("digits", "champion").version)


def test_promote_and_rollback(digits, capsys):
    assert main(["promote", "digits", "1"]) == 0 and champion() == 1
    assert main(["rollback", "digits"]) == 0 and champion() == 2
    assert main(["rollback", "digits"]) == 0 and champion() == 1
    assert main(["rollback", "digits"]) == 2
    assert capsys.readouterr().err == "keras-dl: digits version 1 is the first champion: there is none before it\n"


def test_mistakes_are_told(digits, capsys):
    for arguments in (["promote", "digits", "9"], ["rollback", "speech"], ["compare", "digits", "1", "9"]):
        assert main(arguments) == 2
    assert capsys.readouterr().err.count("in the registry") == 3 and champion() == 2
    with pytest.raises(SystemExit):
        main(["promote", "digits"])


def test_none_of_them_imports_tensorflow(digits):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "120"}
    command = [sys.executable, "-c", COMMAND, "compare", "digits"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "by the rule, 1 does not replace 2" in answer.stdout
