"""The UI: refusals before a start, and one real start."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import requests

from keras_dl.errors import UserError
from keras_dl.tracking.runs import connect
from keras_dl.tracking.settings import Settings
from keras_dl.tracking.ui import ui

# Where this process was started in the background, its children would ignore Ctrl-C.
START = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from keras_dl.cli import main
sys.exit(main())
"""


def test_a_port_in_use_is_told(project):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(UserError, match=rf"cannot listen on 127\.0\.0\.1:{port} \(Address.* in use\).*--port"):
            ui(project, port=port)
        with pytest.raises(UserError, match=rf"127\.0\.0\.1:{port}"):
            ui(Settings(ui={"port": port}, root=project.root))


def test_an_address_of_another_machine_is_told(project):
    with pytest.raises(UserError, match=r"cannot listen on 192\.0\.2\.1:5999"):
        ui(project, host="192.0.2.1", port=5999)


def test_a_server_has_its_own_page(project):
    settings = Settings(tracking={"uri": "https://tracker:5000"}, root=project.root)
    with pytest.raises(UserError, match="open https://tracker:5000"):
        ui(settings)


@pytest.mark.parametrize(
    "number, experiments",
    [(signal.SIGTERM, ["digits"]), pytest.param(signal.SIGINT, [], marks=pytest.mark.slow)],
)
def test_a_real_start_answers_and_ends_with_all_its_processes(project, number, experiments):
    (project.root / "mlflow.db").unlink()
    for name in experiments:
        connect(project, name)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", START, "ui", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    try:
        lines = []
        while process.poll() is None and f"http://127.0.0.1:{port}\n" not in "".join(lines):
            lines.append(process.stdout.readline())
        assert project.tracking_uri in lines[0]
        assert [line.split()[0] for line in lines[1:]] == [*experiments, "all"]
        assert (project.root / "mlflow.db").is_file()
        deadline, answer = time.monotonic() + 60, None
        while answer is None and time.monotonic() < deadline:
            assert process.poll() is None
            try:
                answer = requests.get(f"http://127.0.0.1:{port}/health", timeout=5)
            except requests.ConnectionError:
                time.sleep(0.1)
        assert answer.text == "OK"
        found = requests.get(
            f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/experiments/search?max_results=5", timeout=30
        )
        assert [experiment["name"] for experiment in found.json()["experiments"]] == [*experiments, "Default"]
        process.send_signal(number)
        assert process.wait(30) == 0
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://127.0.0.1:{port}/health", timeout=5)
    finally:
        process.kill()
        process.wait()
