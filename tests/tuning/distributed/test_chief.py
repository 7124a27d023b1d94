"""The chief with real gRPC, and workers in threads and processes."""

import json
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import psutil
import pytest
from keras_tuner.src import protos

from keras_dl.errors import UserError
from keras_dl.tuning.distributed.client import ChiefRefused
from keras_dl.tuning.distributed.supervisor import Supervisor

from ...conftest import free_port
from .served import IDENTITY, client, new_chief, new_oracle, run_all, run_one, score, thread

HERE = Path(__file__).parent


@pytest.fixture
def oracle(tmp_path):
    return new_oracle(tmp_path / "waves")


def test_every_trial_is_run_once_and_its_score_is_exact(oracle):
    first, second = [], []
    with new_chief(oracle) as chief:
        with (
            thread(run_all, client(chief, "a"), first, pause=0.02),
            thread(run_all, client(chief, "b"), second, pause=0.02),
        ):
            chief.wait()
        assert chief.workers == []
    assert first and second
    assert sorted(first + second) == sorted(oracle.trials) == ["0", "1", "2", "3"]
    for trial in oracle.trials.values():
        assert (trial.status, trial.score) == ("COMPLETED", score(trial))
        assert [point.value for point in trial.metrics.get_history("val_loss")] == [[score(trial) + 2], [score(trial)]]


def test_a_worker_receives_the_facts_the_objective_and_finished_trials(oracle):
    with new_chief(oracle, run_id="r1") as chief, client(chief, "a") as worker:
        assert worker.facts["run_id"] == "r1"
        assert (worker.objective.name, worker.objective.direction, worker.max_trials) == ("val_loss", "min", 4)
        trial = worker.create_trial()
        run_one(worker, trial)
        again = worker.get_trial(trial.trial_id)
        assert (again.status, again.score, again.best_step) == ("COMPLETED", score(trial), 1)
        assert worker.get_best_trials(1)[0].score == score(trial)
        assert worker.get_space().space[0].name == "rate"


def test_a_new_hyperparameter_is_added_to_the_space(oracle):
    with new_chief(oracle) as chief, client(chief, "a") as worker:
        space = worker.get_space()
        space.Int("units", 8, 64, step=8)
        worker.update_space(space)
    assert [entry.name for entry in oracle.get_space().space] == ["rate", "units"]


def test_a_worker_that_restarts_gets_its_trial_back(oracle):
    with new_chief(oracle) as chief:
        trial = client(chief, "a").create_trial()
        assert client(chief, "a").create_trial().trial_id == trial.trial_id
        assert len(oracle.trials) == 1


def test_of_two_processes_of_one_name_the_later_one_is_accepted(oracle):
    with new_chief(oracle) as chief:
        before, after = client(chief, "a"), client(chief, "a")
        trial = after.create_trial()
        with pytest.raises(ChiefRefused, match="another worker was started under the same name"):
            before.update_trial(trial.trial_id, {"val_loss": 1.0})


def test_the_message_of_a_failed_trial_arrives(oracle):
    with new_chief(oracle) as chief, client(chief, "a") as worker:
        trial = worker.create_trial()
        trial.status, trial.message = "FAILED", "Traceback:\n" + "x" * 200_000 + "\nValueError: größer"
        worker.end_trial(trial)
        message = oracle.trials[trial.trial_id].message
        assert len(message) == 2**16 and message.endswith("ValueError: größer")
        assert worker.get_trial(trial.trial_id).message == message


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"versions": {"keras_dl": "0.2.0", "keras": "3.15.1"}}, "the chief has keras_dl 0.1.0, the worker 0.2.0"),
        ({"versions": {"keras_dl": "0.1.0"}}, "the chief has keras 3.15.1, the worker none"),
        ({"versions": 3}, "the chief has keras_dl 0.1.0, the worker none"),
        ({"pipeline": "digits"}, "the chief searches the pipeline waves; the worker has digits"),
        ({"digests": {"waves.py": "b" * 64}}, "SHA-256 is aaaaaaaaaaaa... at the chief, bbbbbbbbbbbb... at the worker"),
        ({"digests": {"waves.py": "a" * 64, "layers.py": "c" * 64}}, "layers.py of the pipeline waves differs"),
    ],
)
def test_another_version_or_pipeline_is_rejected_before_any_trial(oracle, changed, reason):
    with new_chief(oracle) as chief:
        with pytest.raises(UserError, match="worker a rejected") as error:
            client(chief, "a", identity={**IDENTITY, **changed})
        assert reason in str(error.value)
        assert chief.workers == [] and oracle.trials == {}


def test_a_worker_of_an_earlier_search_is_rejected(oracle, tmp_path):
    with new_chief(oracle) as chief:
        worker, port = client(chief, "a"), chief.port
    with new_chief(new_oracle(tmp_path / "new"), port, search="another"):
        with pytest.raises(ChiefRefused, match="started another search"):
            worker.create_trial()


@pytest.mark.parametrize(
    "metadata", [(), [("keras-dl-bin", b"{")], [("keras-dl-bin", b"[]")], [("keras-dl-bin", b"{}")]]
)
def test_other_clients_are_rejected_and_do_no_harm(oracle, metadata):
    with new_chief(oracle) as chief:
        with grpc.insecure_channel(f"127.0.0.1:{chief.port}") as channel:
            stub = protos.get_service_grpc().OracleStub(channel)
            with pytest.raises(grpc.RpcError) as error:
                stub.CreateTrial(protos.get_service().CreateTrialRequest(tuner_id="a"), metadata=metadata, timeout=10)
        assert error.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert client(chief, "a").create_trial().status == "RUNNING"


def test_an_error_of_the_oracle_reaches_the_worker_and_the_search(oracle):
    def full():
        raise OSError(28, "No space left on device")

    with new_chief(oracle) as chief, client(chief, "a") as worker:
        oracle.save = full
        for _ in range(2):  # the lock is released
            with pytest.raises(ChiefRefused, match="failed at the chief: OSError: .*No space left on device"):
                worker.create_trial()
        with pytest.raises(OSError, match="No space left"):
            chief.wait()


def test_a_taken_port_raises_an_error(oracle):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{port}: the port is taken"):
            new_chief(oracle, port).__enter__()


def test_a_worker_without_a_chief_waits_and_gives_up(oracle, capfd, monkeypatch):
    monkeypatch.setattr("keras_dl.tuning.distributed.client.ANSWER", 0.3)
    port = free_port()
    began = time.monotonic()
    with pytest.raises(ChiefRefused, match=f"no chief answered at 127.0.0.1:{port} in 1 seconds"):
        client(new_chief(oracle, port), "a", patience=1.0)
    assert time.monotonic() - began >= 1
    assert capfd.readouterr().err.count("no chief answers") == 1


@pytest.fixture
def chief(tmp_path):
    """chief(trials, workers): starts the chief of a search in a process, always on the same port."""
    port = free_port()
    started = []

    def start(trials, workers):
        arguments = [str(value) for value in (tmp_path / "waves", port, trials, workers)]
        started.append(subprocess.Popen([sys.executable, str(HERE / "sleeping_chief.py"), *arguments]))
        return started[-1]

    start.address, start.folder = f"127.0.0.1:{port}", tmp_path / "waves"
    yield start
    for process in started:
        process.kill()
        process.wait()


def ended(folder):
    """Returns the finished trials, from the file of the oracle."""
    try:
        return json.loads((folder / "oracle.json").read_text())["end_order"]
    except FileNotFoundError:
        return []


def check(folder, trials):
    """Checks that all trials have completed, each once and with its score."""
    oracle = new_oracle(folder, trials, reload=True)
    assert len(oracle.trials) == trials
    assert sorted(oracle.end_order) == sorted(oracle.start_order) == sorted(oracle.trials)
    assert oracle.ongoing_trials == {} and oracle._retry_queue == []
    for trial in oracle.trials.values():
        assert (trial.status, trial.score) == ("COMPLETED", score(trial))


@pytest.mark.slow
def test_a_search_survives_many_kills_of_workers_and_one_of_the_chief(chief, tmp_path):
    trials, rng, killed = 40, random.Random(0), 0
    process = chief(trials, 2)
    command = [sys.executable, str(HERE / "sleeping_worker.py"), chief.address]
    with Supervisor(command, ["far-0", "far-1"], tmp_path / "far") as far:
        chief_killed, next_kill = False, time.monotonic() + 12
        while process.poll() is None:
            far.check()
            if time.monotonic() > next_kill and killed < 12:
                next_kill += 3
                workers = [child for child in psutil.Process(process.pid).children() + own_children(process)]
                rng.choice(workers).send_signal(signal.SIGKILL)
                killed += 1
            if not chief_killed and len(ended(chief.folder)) > trials // 3:
                chief_killed = True
                process.kill()
                process.wait()
                process = chief(trials, 2)
            time.sleep(0.1)
        assert process.returncode == 0
        far.wait()
    assert chief_killed and killed >= 8
    check(chief.folder, trials)


def own_children(chief):
    return [child for child in psutil.Process().children() if child.pid != chief.pid]


@pytest.mark.slow
def test_a_worker_killed_in_its_trial_is_restarted_and_finishes_it(chief):
    process = chief(3, 1)
    while len(ended(chief.folder)) < 1:
        assert process.poll() is None
        time.sleep(0.05)
    (worker,) = psutil.Process(process.pid).children()
    worker.kill()
    assert process.wait(60) == 0
    check(chief.folder, 3)
