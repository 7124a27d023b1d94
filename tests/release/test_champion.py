"""promote and rollback change the alias and the folder together, even if interrupted; compare shows two versions."""

import re
import shutil

import mlflow
import pytest

from keras_dl.errors import UserError
from keras_dl.release import registry, served_models
from keras_dl.release.champion import compare, promote, rollback
from keras_dl.serving.versions import exported_versions, withdrawn_versions
from keras_dl.tracking.runs import connect

from . import versions


@pytest.fixture(scope="module")
def store(tmp_path_factory, empty_store):
    """A store with versions 1 to 4 of digits, each of which became the champion in turn."""
    file = shutil.copy(empty_store, tmp_path_factory.mktemp("digits"))
    client = mlflow.MlflowClient(f"sqlite:///{file}", f"sqlite:///{file}")
    client.create_registered_model("digits", {"earlier_champions": "1 2 3"})
    for _ in range(4):
        client.create_model_version("digits", "nowhere")
    client.set_registered_model_alias("digits", "champion", "4")
    return file


@pytest.fixture
def digits(project, store):
    """The settings of a project with this store, in which all versions are exported."""
    shutil.copy(store, project.root / "mlflow.db")
    for version in range(1, 5):
        (project.saved_models / "digits" / str(version)).mkdir(parents=True)
    connect(project)
    assert registry.earlier_champions("digits") == [1, 2, 3]
    return project


def state(settings):
    folder, champion = settings.saved_models, registry.find_version("digits", "champion")
    return int(champion.version), exported_versions(folder, "digits"), withdrawn_versions(folder, "digits")


def test_promote_makes_a_version_the_served_one(digits, capsys):
    assert promote(digits, "digits", "2") == 2
    assert state(digits) == (2, [2, 1], [4, 3])
    assert capsys.readouterr().out == (
        "model  digits version 2 is the champion, instead of version 4\n"
        f"export {digits.saved_models / 'digits' / '2'}\n"
        "       withdrawn from serving: version 3, 4\n"
    )
    assert promote(digits, "digits", "3") == 3
    assert state(digits) == (3, [3, 2, 1], [4])
    assert "back in serving: version 3\n" in capsys.readouterr().out


def test_promote_accepts_an_alias(digits):
    mlflow.MlflowClient().set_registered_model_alias("digits", "challenger", "1")
    assert promote(digits, "digits", "challenger") == 1
    assert registry.find_version("digits", "challenger") is None


def test_repeating_promote_changes_nothing(digits, capsys):
    promote(digits, "digits", "2")
    capsys.readouterr()
    assert promote(digits, "digits", "2") == 2
    assert capsys.readouterr().out.startswith("model  digits version 2 is the champion\n")
    assert state(digits) == (2, [2, 1], [4, 3])
    assert registry.earlier_champions("digits") == [1, 2, 3, 4]


def test_promoting_a_version_without_an_export_prints_the_command(digits, capsys):
    (digits.saved_models / "digits" / "2").rmdir()
    assert promote(digits, "digits", "2") == 2
    assert state(digits) == (2, [4, 3, 1], [])  # the served versions are unchanged
    assert "keras-dl export FILE --model 2" in capsys.readouterr().out


def test_a_missing_version_or_model_is_rejected(digits):
    with pytest.raises(UserError, match="digits has no version '7' in the registry. Available: 4 champion, 3"):
        promote(digits, "digits", "7")
    with pytest.raises(UserError, match="no model 'speech' in the registry. Available: digits"):
        rollback(digits, "speech")
    assert state(digits) == (4, [4, 3, 2, 1], [])


def test_repeated_rollback_restores_earlier_champions(digits, capsys):
    assert [rollback(digits, "digits") for _ in range(3)] == [3, 2, 1]
    assert state(digits) == (1, [1], [4, 3, 2])
    assert "model  digits version 1 is the champion again, instead of version 2\n" in capsys.readouterr().out
    with pytest.raises(UserError, match="digits version 1 is the first champion: there is no earlier one"):
        rollback(digits, "digits")
    assert state(digits) == (1, [1], [4, 3, 2])


def test_rollback_undoes_a_promotion(digits):
    promote(digits, "digits", "1")
    assert rollback(digits, "digits") == 4
    assert state(digits) == (4, [4, 3, 2, 1], [])
    assert rollback(digits, "digits") == 3


def test_rollback_skips_deleted_versions(digits):
    for version in ("2", "3"):
        mlflow.MlflowClient().delete_model_version("digits", version)
    assert rollback(digits, "digits") == 1


def test_a_new_champion_after_a_rollback_can_be_rolled_back(digits):
    rollback(digits, "digits")
    mlflow.MlflowClient().create_model_version("digits", "nowhere")
    registry.move_champion(digits, "digits", 5)
    (digits.saved_models / "digits" / "5").mkdir()
    assert rollback(digits, "digits") == 3
    assert state(digits) == (3, [3, 2, 1], [5, 4])


@pytest.mark.parametrize("step", ["remember_champions", "set_champion", "show_champion"])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("command, expected", [("promote", 2), ("rollback", 3)])
def test_repeating_an_interrupted_command_completes_it(digits, monkeypatch, command, expected, step, before):
    module = served_models if step == "show_champion" else registry
    real = getattr(module, step)

    def stop(*arguments):
        if not before:
            real(*arguments)
        raise KeyboardInterrupt

    def run():
        return promote(digits, "digits", "2") if command == "promote" else rollback(digits, "digits")

    with monkeypatch.context() as patch:
        patch.setattr(module, step, stop)
        with pytest.raises(KeyboardInterrupt):
            run()
    done = command == "rollback" and step == "remember_champions" and not before
    assert done or run() == expected
    assert state(digits)[0] == expected and state(digits)[1][0] == expected
    # No earlier champion is lost or recorded twice.
    assert registry.earlier_champions("digits") == ([1, 2, 3, 4] if command == "promote" else [1, 2])


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
