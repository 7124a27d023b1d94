"""Names of metrics and parameters in MLflow."""

import mlflow
import pytest

from keras_dl.tracking.names import mlflow_names, recorded_name, with_mlflow_names

NAMES = [
    "loss",
    "hits@3",
    "acc (%)",
    "units[0]",
    "encoder/units",
    "a//b",
    "../c",
    "/d",
    ".",
    "",
    "m" * 300,
    "größe",
    "x y",
]


def test_mlflow_accepts_every_name(project):
    mlflow.set_tracking_uri(project.tracking_uri)
    with mlflow.start_run() as run:
        mlflow.log_metrics(with_mlflow_names({name: float(value) for value, name in enumerate(NAMES)}))
        mlflow.log_params(with_mlflow_names({name: value for value, name in enumerate(NAMES)}))
    data = mlflow.get_run(run.info.run_id).data
    for value, name in enumerate(NAMES):
        assert data.metrics[recorded_name(name, data.metrics)] == value
        assert data.params[recorded_name(name, data.params)] == str(value)
    assert {"loss", "hits_3", "acc ___", "units_0_", "encoder/units", "größe", "x y"} <= set(data.metrics)


@pytest.mark.parametrize("names", [["hits@3", "hits#3"], ["hits_3", "hits@3"], ["m" * 300, "m" * 301, "m" * 250]])
def test_equal_names_become_different_ones_that_can_be_found_again(names):
    found = mlflow_names(["loss", *names])
    assert len(set(found.values())) == len(names) + 1
    assert all(found[name] == name for name in found if name in ("loss", "hits_3", "m" * 250))
    assert {name: recorded_name(name, found.values()) for name in found} == found
    # In any order, and together with any other names.
    assert mlflow_names([*reversed(names), "other"]) == {**{name: found[name] for name in names}, "other": "other"}
