"""A distributed search with real processes, any of which is killed."""

import json
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from keras_dl.tuning.distributed.supervisor import Supervisor

from .served import new_oracle, score

HERE = Path(__file__).parent


@pytest.fixture
def chief(tmp_path):
    """chief(trials, workers): starts the chief of a search in a process, always on the same port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
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
