"""The registry: aliases by the champion rule, versions by name, and where a version comes from."""

import math

import mlflow
import pytest

from keras_dl.errors import UserError
from keras_dl.tracking import registry
from keras_dl.tracking.runs import connect, open_run
from keras_dl.tracking.settings import Settings


@pytest.fixture
def register(project):
    """register(value, ...): a version with that value on the test split, of a run without a real model."""
    connect(project, "digits")

    def run(value, metric="error", direction="min", fingerprint="same", name="digits", settings=project):
        with open_run(settings, "train") as run:
            mlflow.log_dict({"rate": 0.1, "units": 3}, "values.json")
            mlflow.set_tags({"data": "default"})
            model = mlflow.MlflowClient().create_logged_model(run.info.experiment_id, source_run_id=run.info.run_id)
            mlflow.MlflowClient().finalize_logged_model(model.model_id, "READY")
        return registry.register(settings, name, model.model_uri, metric, value, direction, fingerprint)

    return run


def aliases(name="digits"):
    return {row["version"]: row["aliases"] for row in registry.list_models() if row["name"] == name}


@pytest.mark.parametrize("direction", ["min", "max"])
def test_the_first_version_is_the_champion(register, direction):
    first = register(0.5, direction=direction)
    assert (first.version, first.alias, first.why) == (1, "champion", "the first version")
    version = mlflow.MlflowClient().get_model_version_by_alias("digits", "champion")
    assert version.version == 1 or version.version == "1"
    assert version.tags == {"metric": "error", "value": "0.5", "fingerprint": "same"}


@pytest.mark.parametrize("direction, better, worse", [("min", 0.1, 0.9), ("max", 0.9, 0.1)])
def test_only_a_better_one_becomes_champion(register, direction, better, worse):
    register(0.5, direction=direction)
    second = register(worse, direction=direction)
    assert (second.version, second.alias) == (2, "challenger")
    assert second.why == f"error {worse:.4g} does not beat the champion's 0.5"
    third = register(better, direction=direction)
    assert (third.version, third.alias, third.why) == (3, "champion", f"error {better:.4g} beats 0.5")
    assert aliases() == {1: [], 2: ["challenger"], 3: ["champion"]}
    # The rule looks at the champion, not at the newest version.
    assert register(0.5, direction=direction).alias == "challenger"
    assert aliases() == {1: [], 2: [], 3: ["champion"], 4: ["challenger"]}


@pytest.mark.parametrize("direction", ["min", "max"])
def test_an_equal_one_does_not_win(register, direction):
    register(0.5, direction=direction)
    assert register(0.5, direction=direction).alias == "challenger"


def test_the_value_is_kept_in_full(register):
    register(0.1 + 0.2)
    assert register(0.3).why == "error 0.3 beats 0.3"


@pytest.mark.parametrize("direction", ["min", "max"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_never_wins(register, direction, value):
    first = register(value, direction=direction)
    assert (first.alias, first.why) == ("challenger", f"error is {value}")
    assert register(0.5, direction=direction).alias == "champion"
    assert register(value, direction=direction).alias == "challenger"
    assert aliases() == {1: [], 2: ["champion"], 3: ["challenger"]}


def test_another_metric_does_not_compare(register):
    register(0.5)
    second = register(0.1, metric="loss")
    assert (second.alias, second.why) == ("challenger", "the champion was judged by error, this one by loss")


def test_other_test_data_do_not_compare(register):
    register(0.5)
    second = register(0.1, fingerprint="other")
    assert (second.alias, second.why) == ("challenger", "the champion was judged on other test data")


def test_a_champion_set_by_hand_without_tags_is_not_replaced(register):
    register(0.5)
    client = mlflow.MlflowClient()
    for tag in ("metric", "value", "fingerprint"):
        client.delete_model_version_tag("digits", "1", tag)
    assert register(0.1).alias == "challenger"


def test_a_deleted_champion_leaves_its_place(register):
    register(0.1)
    mlflow.MlflowClient().delete_model_version("digits", "1")
    assert register(0.5).why == "the first version"


def test_the_names_of_the_aliases_are_those_of_the_settings(project, register):
    settings = Settings(
        registry={"champion": "best", "challenger": "rest"}, system_metrics={"enabled": False}, root=project.root
    )
    assert register(0.5, settings=settings).alias == "best"
    assert register(0.9, settings=settings).alias == "rest"


def test_a_version_by_alias_and_by_number(register):
    register(0.5)
    register(0.9)
    assert int(registry.get_version("digits", "champion").version) == 1
    assert int(registry.get_version("digits", "2").version) == 2
    assert int(registry.get_version("digits", 2).version) == 2
    assert registry.find_version("digits", "3") is None and registry.find_version("speech", "champion") is None


@pytest.mark.parametrize("which", ["3", "best"])
def test_a_missing_version_tells_which_there_are(register, which):
    register(0.5)
    register(0.9)
    register(0.9, name="speech")
    with pytest.raises(UserError) as caught:
        registry.get_version("digits", which)
    message = f"digits has no version {which!r} in the registry. There is: 2 challenger, 1 champion"
    assert str(caught.value) == message


def test_a_missing_model_tells_how_to_make_one(project):
    connect(project)
    with pytest.raises(UserError, match=r"no version 'champion' .*keras-dl tune pipelines/digits\.py"):
        registry.get_version("digits", "champion")


def test_the_origin_of_a_version(register):
    register(0.5)
    version = registry.get_version("digits", 1)
    assert registry.origin(version) == ({"rate": 0.1, "units": 3}, None)
    mlflow.MlflowClient().set_tag(version.run_id, "data", "tfds:mnist")
    assert registry.origin(version) == ({"rate": 0.1, "units": 3}, "tfds:mnist")


def test_the_list_of_all_versions(register):
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
