"""promote, rollback, compare and list on the command line."""

import subprocess
import sys

import pytest

from keras_dl.cli import main
from keras_dl.release import registry
from keras_dl.tracking.runs import connect

from ..release.versions import register


@pytest.fixture
def digits(project):
    """Two versions of digits, both exported; the second replaced the first as champion."""
    connect(project, "digits")
    for version, value in (("1", 0.5), ("2", 0.25)):
        register(project, "digits", value, values={"rate": value})
        (project.saved_models / "digits" / version).mkdir(parents=True)
    return project


def champion():
    return int(registry.get_version("digits", "champion").version)


def test_promote_and_rollback(digits, capsys):
    assert main(["promote", "digits", "1"]) == 0 and champion() == 1
    assert main(["rollback", "digits"]) == 0 and champion() == 2
    assert main(["rollback", "digits"]) == 0 and champion() == 1
    assert main(["rollback", "digits"]) == 2
    assert capsys.readouterr().err == "keras-dl: digits version 1 is the first champion: there is no earlier one\n"


def test_mistakes_are_reported(digits, capsys):
    for arguments in (["promote", "digits", "9"], ["rollback", "speech"], ["compare", "digits", "1", "9"]):
        assert main(arguments) == 2
    assert capsys.readouterr().err.count("in the registry") == 3 and champion() == 2
    with pytest.raises(SystemExit):
        main(["promote", "digits"])


COMMANDS = """
import sys
from keras_dl.cli import main
for command in ("list", "compare digits"):
    assert main(command.split()) == 0
    assert not {"tensorflow", "keras", "keras_tuner"} & set(sys.modules), command
"""


def test_list_and_compare_do_not_import_tensorflow(digits, environment):
    done = subprocess.run([sys.executable, "-c", COMMANDS], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "digits   2         champion" in done.stdout
    assert "version 1 does not replace version 2" in done.stdout
