"""`keras-dl ui`: errors before the start, real servers, and the saved view of the runs page."""

import json
import signal
import socket
import webbrowser

import mlflow
import pytest
import requests

from keras_dl.errors import UserError
from keras_dl.tracking.runs import connect, open_run
from keras_dl.tracking.settings import Settings
from keras_dl.tracking.ui import page, ui, view

from ..conftest import free_port

TAG = "mlflow.sharedViewState.keras-dl"


def test_a_port_in_use_is_rejected(project):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(UserError, match=rf"cannot listen on 127\.0\.0\.1:{port} \(Address.* in use\).*--port"):
            ui(project, port=port)
        with pytest.raises(UserError, match=rf"127\.0\.0\.1:{port}"):
            ui(Settings(ui={"port": port}, root=project.root))


def test_an_address_of_another_machine_is_rejected(project):
    with pytest.raises(UserError, match=r"cannot listen on 192\.0\.2\.1:5999"):
        ui(project, host="192.0.2.1", port=5999)


def test_an_unknown_experiment_is_rejected(project):
    port = free_port()
    with pytest.raises(UserError, match="no experiment 'digits' in the store. Available: none"):
        ui(project, port=port, name="digits")
    connect(project, "speech")
    with pytest.raises(UserError, match="no experiment 'digits' in the store. Available: speech"):
        ui(project, port=port, name="digits")


@pytest.mark.parametrize(
    "number, experiments", [(signal.SIGTERM, ["digits"]), pytest.param(signal.SIGINT, [], marks=pytest.mark.slow)]
)
def test_the_server_answers_and_ends_with_all_its_processes(project, start_ui, number, experiments):
    if not experiments:
        (project.root / "mlflow.db").unlink()  # a missing store is created
    for name in experiments:
        connect(project, name)
    with start_ui(project) as (url, lines, process):
        assert project.tracking_uri in lines[0]
        assert [line.split()[0] for line in lines[1:]] == [*experiments, "all"]
        assert (project.root / "mlflow.db").is_file()
        found = requests.get(f"{url}/ajax-api/2.0/mlflow/experiments/search?max_results=5", timeout=30)
        assert [experiment["name"] for experiment in found.json()["experiments"]] == [*experiments, "Default"]
        process.send_signal(number)
        assert process.wait(30) == 0
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{url}/health", timeout=5)


@pytest.mark.slow
def test_no_second_server_is_started_for_a_tracking_server(project, start_ui, capsys, monkeypatch):
    connect(project, "digits")
    with open_run(project, "train", {"kind": "train"}):
        mlflow.log_metric("test_error", 0.5)
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    with start_ui(project, "digits") as (url, _, _):
        mlflow.set_tracking_uri(None)
        settings = Settings(tracking={"uri": url + "/"}, root=project.root)
        capsys.readouterr()
        assert ui(settings, name="digits", open_browser=True) == 0
        first, page, _ = capsys.readouterr().out.splitlines()
        assert first == f"the MLflow UI is part of the tracking server: {url}/"
        assert page.split() == ["digits", f"{url}/#/experiments/1/runs?workflowType=machine_learning"
                                "&viewStateShareKey=keras-dl"]  # fmt: skip
        assert opened == [page.split()[1]]


@pytest.mark.slow
def test_the_browser_opens_when_the_server_answers(project, start_ui, monkeypatch):
    connect(project, "digits")
    note = project.root / "opened"
    monkeypatch.setenv("BROWSER", f"sh -c 'echo %s > {note}'")
    with start_ui(project, "digits", "--open") as (url, lines, _):
        assert len(lines) == 3
        for _ in range(100):
            if note.is_file() and note.read_text():
                break
            requests.get(f"{url}/health", timeout=5)
        assert note.read_text().strip() == lines[1].split()[1]


@pytest.fixture
def search(project):
    """search(values, direction, executions): stores a search with these trials and returns its runs."""
    connect(project, "digits")

    def run(values, direction="min", executions=1):
        tags = {"kind": "search", "objective": "val_error", "direction": direction}
        with open_run(project, "search-random", tags):
            for number, each in enumerate(values):
                with open_run(project, f"trial-{number + 1}", {"kind": "trial", "trial": f"{number:02}"}):
                    mlflow.log_params(each)
                    mlflow.log_metrics({"val_error": 0.5, "loss": 2.0, "best_val_error": 0.5 - number / 10})
                    if executions > 1:
                        mlflow.log_metric("spread_val_error", 0.01)
                        with open_run(project, "execution-1", {"kind": "execution"}):
                            mlflow.log_metric("val_error", 0.5)
            mlflow.log_metrics({"best_val_error": 0.4, "best_loss": 2.0, "test_error": 0.4, "test_loss": 2.0})
            mlflow.log_params({"objective": "val_error", "best_units": 3})
        return mlflow.search_runs(output_format="list")

    return run


def test_columns_and_sort_order_of_a_search(search):
    found = view(search([{"units": 3, "rate": 0.1}, {"units": 4, "depth": 2, "tuner/bracket": 1}]))
    assert found["selectedColumns"] == found["columnOrder"] == [
        "metrics.`best_val_error`", "params.`depth`", "params.`rate`", "params.`units`", "metrics.`test_error`",
        "metrics.`test_loss`", "attributes.`Duration`",
    ]  # fmt: skip
    assert (found["orderByKey"], found["orderByAsc"]) == ("metrics.`best_val_error`", True)
    assert set(found["columnWidths"]) == set(found["columnOrder"]) and "searchFilter" not in found


def test_an_objective_to_maximize_is_sorted_in_descending_order(search):
    assert view(search([{"units": 3}], direction="max"))["orderByAsc"] is False


def test_executions_are_hidden(search):
    found = view(search([{"units": 3}], executions=2))
    assert found["searchFilter"] == "tags.kind != 'execution'"
    assert found["selectedColumns"][:2] == ["metrics.`best_val_error`", "metrics.`spread_val_error`"]
    kept = mlflow.search_runs(filter_string=found["searchFilter"], output_format="list")
    assert {run.data.tags["kind"] for run in kept} == {"search", "trial"}


def test_columns_of_training_runs_without_a_search(project):
    connect(project, "digits")
    with open_run(project, "train", {"kind": "train"}):
        mlflow.log_params({"units": 3, "epochs": 2})
        mlflow.log_metrics({"val_error": 0.5, "test_error": 0.4})
    found = view(mlflow.search_runs(output_format="list"))
    assert found["selectedColumns"] == [
        "params.`epochs`", "params.`units`", "metrics.`test_error`", "attributes.`Duration`"
    ]  # fmt: skip
    assert "orderByKey" not in found


def test_the_url_names_the_saved_view(search):
    runs = search([{"units": 3}])
    experiment = mlflow.get_experiment_by_name("digits")
    assert page(experiment) == (
        f"#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning&viewStateShareKey=keras-dl"
    )
    saved = json.loads(mlflow.get_experiment_by_name("digits").tags[TAG])
    assert saved["name"] == "trials, best first" and saved["createdAt"] == saved["updatedAt"] > 1.7e12
    assert json.loads(saved["state"]) == view(runs)


def test_the_last_columns_are_dropped_if_a_tag_cannot_hold_them(search):
    search([{f"a_hyperparameter_of_a_long_name_{number}": number for number in range(60)}])
    page(mlflow.get_experiment_by_name("digits"))
    text = mlflow.get_experiment_by_name("digits").tags[TAG]
    state = json.loads(json.loads(text)["state"])
    assert 4000 < len(text) <= 5000 and state["selectedColumns"][0] == "metrics.`best_val_error`"
    assert state["columnOrder"] == state["selectedColumns"] == [*state["columnWidths"]]


def test_no_view_is_named_without_runs_or_in_a_read_only_store(project, search, monkeypatch):
    connect(project, "empty")
    empty = mlflow.get_experiment_by_name("empty")
    assert page(empty) == f"#/experiments/{empty.experiment_id}/runs?workflowType=machine_learning"
    connect(project, "digits")
    search([{"units": 3}])

    def refuse(*_):
        raise mlflow.MlflowException("Permission denied")

    monkeypatch.setattr(mlflow.MlflowClient, "set_experiment_tag", refuse)
    assert page(mlflow.get_experiment_by_name("digits")).endswith("/runs?workflowType=machine_learning")
