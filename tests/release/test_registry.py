"""The registry: aliases, versions by name, and the origin of a version."""

import datetime
import json
import math

import mlflow
import pytest

from keras_dl.errors import UserError
from keras_dl.release import registry
from keras_dl.tracking.runs import connect
from keras_dl.tracking.settings import Settings

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
