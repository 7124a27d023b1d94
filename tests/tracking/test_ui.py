"""`keras-dl ui`: errors before the start, and real servers."""

import signal
import socket
import webbrowser

import mlflow
import pytest
import requests

from keras_dl.errors import UserError
from keras_dl.tracking.runs import connect, open_run
from keras_dl.tracking.settings import Settings
from keras_dl.tracking.ui import ui


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
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UserError, match="no experiment 'digits' in the store. Available: none"):
        ui(project, port=port, name="digits")
    connect(project, "speech")
    with pytest.raises(UserError, match="no experiment 'digits' in the store. Available: speech"):
        ui(project, port=port, name="digits")


@pytest.mark.parametrize(
    "number, experiments",
    [(signal.SIGTERM, ["digits"]), pytest.param(signal.SIGINT, [], marks=pytest.mark.slow)],
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
