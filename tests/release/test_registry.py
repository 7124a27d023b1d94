"""The registry: permission to write, aliases, the rule for champions, versions by name, and their origin."""

import contextlib
import datetime
import json
import math
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

import mlflow
import pytest

from keras_dl.errors import UserError
from keras_dl.release import registry
from keras_dl.release.registry import check_registry, verdict
from keras_dl.tracking.runs import connect
from keras_dl.tracking.settings import Settings

from ..answers import answering
from . import versions


@pytest.fixture
def register(project):
    """register(value, ...): registers a version with this test value, from a run without a real model."""
    connect(project, "digits")

    def run(value, name="digits", settings=project, **options):
        return versions.register(settings, name, value, values={"rate": 0.1, "units": 3}, **options)

    return run


def aliases(name="digits"):
    return {row["version"]: row["aliases"] for row in registry.list_models() if row["name"] == name}


def test_the_first_version_is_the_champion(register):
    first = register(0.5, direction="max")
    assert (first.version, first.alias, first.why) == (1, "champion", "the first version")
    version = mlflow.MlflowClient().get_model_version_by_alias("digits", "champion")
    assert version.version == 1 or version.version == "1"
    assert version.tags == {
        "metric": "error", "value": "0.5", "direction": "max", "fingerprint": "same", "why": "the first version"
    }  # fmt: skip


def test_only_a_better_version_becomes_champion(register):
    register(0.5)
    second = register(0.9)
    assert (second.version, second.alias) == (2, "challenger")
    assert second.why == "error 0.9 does not beat the champion's 0.5"
    third = register(0.1)
    assert (third.version, third.alias, third.why) == (3, "champion", "error 0.1 beats 0.5")
    assert aliases() == {1: [], 2: ["challenger"], 3: ["champion"]}
    # Versions are compared with the champion, not with the newest version.
    assert register(0.5).alias == "challenger"
    assert aliases() == {1: [], 2: [], 3: ["champion"], 4: ["challenger"]}


def test_spread_and_reason_are_stored_with_the_version(register):
    register(0.5)
    second = register(0.4, spread=0.2)
    assert second.alias == "challenger"
    assert second.why == "error 0.4 beats the champion's 0.5 by no more than the noise, 0.2"
    tags = registry.get_version("digits", 2).tags
    assert (tags["spread"], tags["why"]) == ("0.2", second.why)
    register(0.1, spread=0.0)
    assert registry.get_version("digits", "champion").tags["why"] == "error 0.1 beats 0.5"


def test_a_version_with_a_nan_value_does_not_become_champion(register):
    first = register(math.nan)
    assert (first.alias, first.why) == ("challenger", "error is nan")
    assert register(0.5).alias == "champion"
    assert aliases() == {1: ["challenger"], 2: ["champion"]}


def test_earlier_champions_are_recorded(register):
    for value in (0.5, 0.9, 0.3, 0.2):
        register(value)
    assert registry.earlier_champions("digits") == [1, 3]
    assert register(0.8, name="speech").alias == "champion" and registry.earlier_champions("speech") == []


def test_a_promoted_challenger_loses_the_challenger_alias(project, register):
    register(0.5)
    register(0.9)
    registry.move_champion(project, "digits", 2)
    assert aliases() == {1: [], 2: ["champion"]} and registry.earlier_champions("digits") == [1]
    # Repeated after an interruption before the alias moved: the previous champion is recorded once.
    registry.remember_champions("digits", [1, 2])
    registry.move_champion(project, "digits", 1)
    assert registry.earlier_champions("digits") == [1, 2]
    registry.remember_champions("digits", list(range(1, 1000)))
    assert registry.earlier_champions("digits") == list(range(900, 1000))


def test_a_champion_without_our_tags_is_not_replaced(register):
    register(0.5)
    client = mlflow.MlflowClient()
    for tag in ("metric", "value", "fingerprint"):
        client.delete_model_version_tag("digits", "1", tag)
    assert register(0.1).alias == "challenger"


def test_a_deleted_champion_is_replaced(register):
    register(0.1)
    mlflow.MlflowClient().delete_model_version("digits", "1")
    assert register(0.5).why == "the first version"


def test_the_settings_define_the_names_of_the_aliases(project, register):
    settings = Settings(
        registry={"champion": "best", "challenger": "rest"}, system_metrics={"enabled": False}, root=project.root
    )
    assert register(0.5, settings=settings).alias == "best"
    assert register(0.9, settings=settings).alias == "rest"


def test_get_version_by_alias_and_number(register):
    register(0.5)
    register(0.9)
    assert int(registry.get_version("digits", "champion").version) == 1
    assert int(registry.get_version("digits", "2").version) == 2
    assert int(registry.get_version("digits", 2).version) == 2
    assert registry.find_version("digits", "3") is None and registry.find_version("speech", "champion") is None


def test_a_missing_version_is_reported_with_the_existing_ones(register):
    register(0.5)
    register(0.9)
    register(0.9, name="speech")
    for which in ("3", "best"):
        with pytest.raises(UserError) as caught:
            registry.get_version("digits", which)
        message = f"digits has no version {which!r} in the registry. Available: 2 challenger, 1 champion"
        assert str(caught.value) == message


def test_a_missing_model_is_reported_with_the_existing_ones(project, register):
    with pytest.raises(UserError, match="^no model 'nosuch' in the registry. Available: none yet; keras-dl tune reg"):
        registry.get_version("nosuch", "champion")
    for name in ("speech", "digits", "digits"):
        register(0.5, name=name)
    with pytest.raises(UserError, match="^no model 'nosuch' in the registry. Available: digits, speech$"):
        registry.get_version("nosuch", 1)


def test_the_origin_of_a_version(register):
    register(0.5)
    version = registry.get_version("digits", 1)
    assert registry.origin(version) == ({"rate": 0.1, "units": 3}, None)
    mlflow.MlflowClient().set_tag(version.run_id, "data", "tfds:mnist")
    assert registry.origin(version) == ({"rate": 0.1, "units": 3}, "tfds:mnist")


def test_a_failure_of_the_store_is_not_a_missing_version(register, monkeypatch):
    register(0.5)
    monkeypatch.setattr(mlflow.MlflowClient, "get_model_version_by_alias", fail)
    with pytest.raises(mlflow.MlflowException, match="disk I/O error"):
        registry.find_version("digits", "champion")


def fail(*_):
    raise mlflow.MlflowException("disk I/O error")


def test_the_lineage_of_a_version_is_json_without_addresses(project, register):
    register(0.5)
    register(math.nan)
    version = registry.get_version("digits", 1)
    found = json.loads(json.dumps(registry.lineage(version), allow_nan=False))
    date = datetime.datetime.fromisoformat(found.pop("date"))
    assert abs(date.timestamp() - version.creation_timestamp / 1000) < 1
    assert found == {
        "name": "digits", "version": 1, "run_id": version.run_id, "metric": "error", "value": 0.5,
        "fingerprint": "same", "values": {"rate": 0.1, "units": 3},
    }  # fmt: skip
    assert registry.lineage(registry.get_version("digits", 2))["value"] is None


def test_mark_exported_tags_run_and_version(register):
    register(0.5)
    registry.mark_exported(registry.get_version("digits", 1), "saved_models/digits/1")
    version = registry.get_version("digits", 1)
    run = mlflow.get_run(version.run_id)
    assert version.tags["exported"] == run.data.tags["exported"] == "saved_models/digits/1"


def test_list_models_returns_all_versions(register):
    assert registry.list_models() == []
    register(0.5, name="speech", metric="wer")
    register(0.5)
    register(0.25)
    rows = registry.list_models()
    assert [(row["name"], row["version"], row["aliases"]) for row in rows] == [
        ("digits", 2, ["champion"]), ("digits", 1, []), ("speech", 1, ["champion"])
    ]  # fmt: skip
    run = mlflow.get_run(rows[0]["run_id"])
    assert run.info.run_name == "train"
    assert (rows[0]["metric"], rows[0]["value"], rows[0]["fingerprint"]) == ("error", "0.25", "same")
    assert rows[2]["metric"] == "wer"
    mlflow.MlflowClient().set_registered_model_alias("speech", "spoken", "1")
    assert registry.list_models()[2]["aliases"] == ["champion", "spoken"]


def test_list_models_reads_all_pages(project, register):
    client = mlflow.MlflowClient()
    for number in range(101):
        client.create_registered_model(f"a{number:03}")
    register(0.5)
    assert [(row["name"], row["version"]) for row in registry.list_models()] == [("digits", 1)]


def test_version_of_run_returns_the_version_of_this_model(register):
    register(0.5, name="speech")
    register(0.5)
    register(0.5)
    first, second = (registry.get_version("digits", number).run_id for number in (1, 2))
    assert [registry.version_of_run("digits", run_id) for run_id in (first, second)] == [1, 2]
    assert registry.version_of_run("speech", first) is None and registry.version_of_run("digits", "0" * 32) is None


def content(settings):
    with contextlib.closing(sqlite3.connect(settings.root / "mlflow.db")) as store:
        return list(store.iterdump())


@pytest.mark.parametrize("known", [False, True])
def test_a_writable_registry_is_not_changed(project, known):
    connect(project, "digits")
    if known:
        mlflow.MlflowClient().create_registered_model("digits")
        mlflow.MlflowClient().create_model_version("digits", "nowhere")
    before = content(project)
    check_registry("digits")
    assert content(project) == before


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a/b", "a:b"])
def test_an_invalid_name_is_rejected(project, name):
    connect(project)
    with pytest.raises(UserError, match="must not be empty or contain '/' or ':'. Received: '"):
        check_registry(name)


@pytest.fixture
def read_only(project):
    """Settings of a project whose store is read-only, because of its permissions and because the user is not root."""
    with tempfile.TemporaryDirectory() as folder:  # pytest's folders are accessible only to its user
        os.chmod(folder, 0o755)
        shutil.copy(project.root / "mlflow.db", folder)
        os.chmod(Path(folder, "mlflow.db"), 0o444)
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        mlflow.search_experiments()
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)
        try:
            yield Settings(root=folder)
        finally:
            if is_root:
                os.seteuid(0)


def test_a_read_only_store_is_reported(read_only):
    with pytest.raises(UserError, match=r"register digits in .*mlflow\.db: attempt to write a readonly database"):
        check_registry("digits")


def test_a_store_without_registry_tables_is_reported(project):
    connect(project)
    with contextlib.closing(sqlite3.connect(project.root / "mlflow.db")) as store:
        store.execute("DROP TABLE model_versions")
    with pytest.raises(UserError, match="cannot register digits in .*: no such table: model_versions"):
        check_registry("digits")


def test_the_password_is_hidden(project, monkeypatch):
    monkeypatch.setattr(mlflow, "get_registry_uri", lambda: "mysql+nothing://me:secret@tracker/db")
    with pytest.raises(UserError) as caught:
        check_registry("digits")
    assert "me:***@tracker" in str(caught.value) and "secret" not in str(caught.value)


# ---------------------------------------------------------------------------- servers


BAD_NAME = 400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "Invalid model name '/'."}
DENIED = 403, {"error_code": "PERMISSION_DENIED", "message": "Permission denied"}
NO_MODELS = 200, {"registered_models": []}
DIGITS = 200, {"registered_models": [{"name": "digits"}]}


def ask(answers):
    """Checks the registry of a server with these answers, `{end of path: (status, content)}`; returns the requests."""
    asked = []

    def answer(method, path):
        path = path.partition("?")[0]
        asked.append(f"{method} {path.rpartition('mlflow/')[2]}")
        found = (answer for end, answer in answers.items() if path.endswith(end))
        status, content = next(found, (404, {"error_code": "NOT_FOUND"}))
        return status, json.dumps(content).encode() if isinstance(content, dict) else content

    with answering(answer) as url:
        mlflow.set_tracking_uri(url)
        try:
            check_registry("digits")
        finally:
            mlflow.set_tracking_uri(None)
    return asked


def test_a_writable_server_is_not_changed(project):
    assert ask({"registered-models/create": BAD_NAME, "registered-models/search": NO_MODELS}) == [
        "POST registered-models/create", "GET registered-models/search"
    ]  # fmt: skip


def test_a_server_that_denies_creating_models_is_reported(project):
    with pytest.raises(UserError, match=r"digits in the model registry http://127\.0\.0\.1:\d+: .*[Pp]ermission"):
        ask({"registered-models/create": DENIED})


def test_a_proxy_that_denies_access_is_reported(project):
    with pytest.raises(UserError, match="cannot register digits in .*: .*403"):
        ask({"registered-models/create": (403, b"<html>Forbidden</html>")})


def test_a_server_that_denies_writing_to_this_model_is_reported(project):
    answers = {"registered-models/create": BAD_NAME, "registered-models/search": DIGITS}
    answers["registered-models/get"] = 200, {"registered_model": {"name": "digits"}}
    with pytest.raises(UserError, match="cannot register digits in .*: .*[Pp]ermission"):
        ask({**answers, "registered-models/alias": DENIED})
    assert ask({**answers, "registered-models/alias": (200, {})})[-1] == "DELETE registered-models/alias"


@pytest.mark.slow
def test_a_real_server_is_not_changed(project, start_ui):
    with start_ui(project) as (url, _, _):
        mlflow.set_tracking_uri(url)
        mlflow.MlflowClient().create_registered_model("digits")
        before = content(project)
        for name in ("digits", "speech"):
            check_registry(name)
        assert content(project) == before


def tags(value, spread=None, direction="min", metric="error", fingerprint="same"):
    found = {"metric": metric, "value": repr(value), "direction": direction, "fingerprint": fingerprint}
    return found if spread is None else {**found, "spread": repr(spread)}


@pytest.mark.parametrize("direction", ["min", "max"])
def test_the_first_version_wins(direction):
    assert verdict(None, tags(0.5, direction=direction)) == (True, "the first version")


@pytest.mark.parametrize("direction, better, worse", [("min", 0.1, 0.9), ("max", 0.9, 0.1)])
def test_without_spreads_any_gain_wins(direction, better, worse):
    champion = tags(0.5, direction=direction)
    assert verdict(champion, tags(better, direction=direction)) == (True, f"error {better} beats 0.5")
    reason = f"error {worse} does not beat the champion's 0.5"
    assert verdict(champion, tags(worse, direction=direction)) == (False, reason)
    assert verdict(champion, tags(0.5, direction=direction))[0] is False


def test_values_are_compared_with_full_precision():
    assert verdict(tags(0.1 + 0.2), tags(0.3)) == (True, "error 0.3 beats 0.3")


@pytest.mark.parametrize("direction, value", [("min", 0.375), ("max", 0.625)])
@pytest.mark.parametrize("old, new", [(0.125, None), (None, 0.125), (0.125, 0.0625), (0.0625, 0.125)])
def test_a_gain_up_to_the_larger_spread_does_not_win(direction, value, old, new):
    champion = tags(0.5, old, direction)
    wins, why = verdict(champion, tags(value, new, direction))
    assert (wins, why) == (False, f"error {value:.4g} beats the champion's 0.5 by no more than the noise, 0.12")
    beyond = math.nextafter(value, 0.0 if direction == "min" else 1.0)
    wins, why = verdict(champion, tags(beyond, new, direction))
    assert (wins, why) == (True, f"error {value:.4g} beats 0.5 by more than the noise, 0.12")


@pytest.mark.parametrize("spread", [math.nan, math.inf, 0.0])
def test_a_zero_or_non_finite_spread_is_ignored(spread):
    assert verdict(tags(0.5, spread), tags(0.4, spread)) == (True, "error 0.4 beats 0.5")


@pytest.mark.parametrize("direction", ["min", "max"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_non_finite_value_never_wins(direction, value):
    for present in (None, tags(0.5, direction=direction)):
        assert verdict(present, tags(value, direction=direction)) == (False, f"error is {value}")


def test_different_metrics_are_not_comparable():
    reason = "the champion was judged by error, this one by loss"
    assert verdict(tags(0.5), tags(0.1, metric="loss")) == (False, reason)


def test_different_test_data_are_not_comparable():
    reason = "the champion was judged on different test data"
    assert verdict(tags(0.5), tags(0.1, fingerprint="other")) == (False, reason)


def test_a_champion_without_tags_is_not_replaced():
    assert verdict({}, tags(0.1)) == (False, "the champion was judged by None, this one by error")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_champion_with_a_non_finite_value_is_replaced(value):
    assert verdict(tags(value), tags(0.1)) == (True, f"error 0.1 beats {value}")
