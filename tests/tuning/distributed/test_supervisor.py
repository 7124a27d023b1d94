"""The supervisor with real processes that do not train."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from keras_dl.errors import UserError
from keras_dl.tuning.distributed.supervisor import Supervisor, cores, gpu_variables, gpus

# A worker that receives a trial and runs it without end.
STEADY = "supervisor.hold(); supervisor.tell_begun(); print('started', flush=True); time.sleep(600)"
LISTED = """GPU 0: NVIDIA H200 (UUID: GPU-11111111-aaaa)
GPU 1: NVIDIA H200 (UUID: GPU-22222222-bbbb)
"""
PARTS = """GPU 0: NVIDIA H200 (UUID: GPU-11111111-aaaa)
  MIG 1g.18gb     Device  0: (UUID: MIG-33333333-cccc)
  MIG 1g.18gb     Device  1: (UUID: MIG-44444444-dddd)
"""


def command(script):
    return [
        sys.executable,
        "-c",
        f"import os, signal, sys, time; from keras_dl.tuning.distributed import supervisor; {script}",
    ]


@pytest.fixture
def start(tmp_path):
    """start(script): returns a supervisor of workers that run a script."""
    return lambda script, names=("w",), **options: Supervisor(command(script), list(names), tmp_path, **options)


def until(condition, supervisor=None, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        if supervisor:
            supervisor.check()
        time.sleep(0.02)


def test_workers_that_finish_are_not_restarted(start, tmp_path, capfd):
    with start("print('my name is', sys.argv[2])", ["a", "b"]) as supervisor:
        supervisor.wait()
    assert not supervisor.running
    assert (tmp_path / "a.log").read_text() == "my name is a\n"
    assert (tmp_path / "b.log").read_text() == "my name is b\n"
    assert capfd.readouterr() == ("", "")


def test_each_worker_is_bound_to_its_cores(start, tmp_path):
    there = sorted(os.sched_getaffinity(0))
    script = "time.sleep(0.3); print(sorted(os.sched_getaffinity(0)))"
    with start(script, ["a", "b"]) as supervisor:
        supervisor.wait()
    bound = [json.loads((tmp_path / f"{name}.log").read_text()) for name in "ab"]
    assert sum(bound, []) == (there if len(there) > 1 else there * 2)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_worker_that_dies_is_restarted_with_its_name_and_the_reason(start, tmp_path, number, capfd):
    script = "died = os.environ.get('KERAS_DL_DIED'); print(sys.argv[2], died, flush=True); died or time.sleep(600)"
    with start(script) as supervisor:
        until(lambda: "w None" in (tmp_path / "w.log").read_text(), supervisor)
        os.kill(supervisor._workers[0].process.pid, number)
        supervisor.wait()
    crash = "true" if number == signal.SIGSEGV else "false"
    reason = f"signal {int(number)} ({number.name})"
    assert f'w {{"reason": "{reason}", "crash": {crash}}}' in (tmp_path / "w.log").read_text()
    assert f"w died: {reason}. Restarted" in capfd.readouterr().err


def test_a_worker_that_crashes_before_any_trial_is_given_up_with_its_last_lines(start, tmp_path, capfd):
    gone = []
    script = "print('loading'); raise ImportError('no module numpyy')"
    with start(script, gone=gone.append) as supervisor:
        with pytest.raises(UserError, match="no worker is left. w: it died 3 times .* exit status 1.*no module numpyy"):
            supervisor.wait()
    assert gone == ["w"]
    assert (tmp_path / "w.log").read_text().count("loading") == 3


def test_a_worker_with_invalid_input_is_not_restarted(start, tmp_path):
    script = "print('keras-dl: the chief has keras_dl 2', file=sys.stderr); sys.exit(2)"
    with start(script) as supervisor:
        with pytest.raises(UserError, match="w: the chief has keras_dl 2$"):
            supervisor.wait()
    assert (tmp_path / "w.log").read_text().count("keras-dl") == 1


def test_a_worker_that_receives_trials_between_crashes_is_restarted(start, tmp_path):
    script = "print('again', flush=True); supervisor.tell_begun(); os.abort()"
    with start(script) as supervisor:
        until(lambda: (tmp_path / "w.log").read_text().count("again") > 5, supervisor)
        assert supervisor.running


def test_more_kills_from_outside_than_crashes_are_tolerated(start, tmp_path):
    with start("print('again', flush=True); os.kill(os.getpid(), signal.SIGKILL)") as supervisor:
        with pytest.raises(UserError, match="it died 20 times before receiving a trial, most recently from signal 9"):
            supervisor.wait()


def test_running_out_of_memory_counts_as_a_crash(start, monkeypatch):
    counts = iter(range(100))
    monkeypatch.setattr("keras_dl.tuning.distributed.supervisor._out_of_memory", lambda: next(counts))
    with start("os.kill(os.getpid(), signal.SIGKILL)") as supervisor:
        with pytest.raises(UserError, match=r"it died 3 times .* signal 9 \(SIGKILL\), out of memory"):
            supervisor.wait()


def test_other_workers_continue_when_one_is_given_up(start):
    with start("sys.exit(2 if sys.argv[2] == 'a' else 0)", ["a", "b"]) as supervisor:
        supervisor.wait()


def test_workers_are_terminated_when_the_search_is_stopped(start, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        with start(STEADY, ["a", "b"]) as supervisor:
            until(lambda: all("started" in (tmp_path / f"{name}.log").read_text() for name in "ab"), supervisor)
            raise KeyboardInterrupt
    assert [worker.process.returncode for worker in supervisor._workers] == [-signal.SIGTERM] * 2


def test_a_worker_that_does_not_stop_is_killed(start, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_dl.tuning.distributed.supervisor.STOP", 0.3)
    with pytest.raises(KeyboardInterrupt):
        with start("signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)") as one:
            until(lambda: "deaf" in (tmp_path / "w.log").read_text(), one)
            raise KeyboardInterrupt
    assert one._workers[0].process.returncode == -signal.SIGKILL


def test_workers_end_when_the_supervisor_is_killed(tmp_path):
    script = f"""
import sys, time
from pathlib import Path
from keras_dl.tuning.distributed.supervisor import Supervisor
with Supervisor({command(STEADY)!r}, ["a", "b"], Path({str(tmp_path)!r})) as supervisor:
    print(*(worker.process.pid for worker in supervisor._workers), flush=True)
    supervisor.wait()
"""
    supervisor = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in supervisor.stdout.readline().split()]
    until(lambda: all("started" in (tmp_path / f"{name}.log").read_text() for name in "ab"))
    assert all(running(pid) for pid in pids)
    supervisor.kill()
    supervisor.wait()
    until(lambda: not any(running(pid) for pid in pids))


def running(pid):
    """Returns whether a process is running; a zombie is not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """machine(count, listed): sets the number of cores and the output of nvidia-smi -L; None removes the command."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    def make(count, listed=None):
        monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(count)))
        if listed is not None:
            (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n[ \"$1\" = -L ] && printf '%s' '{listed}'\n")
            (tmp_path / "nvidia-smi").chmod(0o755)

    return make


@pytest.mark.parametrize(
    ("there", "workers", "given"),
    [
        (8, 2, [{0, 1, 2, 3}, {4, 5, 6, 7}]),
        (8, 3, [{0, 1}, {2, 3, 4}, {5, 6, 7}]),
        (2, 2, [{0}, {1}]),
        (2, 3, [{0}, {1}, {0}]),
        (2, 1, [{0, 1}]),
    ],
)
def test_cores_are_divided(machine, there, workers, given):
    machine(there)
    assert cores(workers) == given


def test_without_support_for_binding_the_cores_are_none(monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity")
    assert cores(2) == [None, None]


def test_each_worker_gets_a_gpu_in_turn(machine):
    machine(8, LISTED)
    found = gpu_variables(3)
    assert [share["CUDA_VISIBLE_DEVICES"] for share in found] == [
        "GPU-11111111-aaaa",
        "GPU-22222222-bbbb",
        "GPU-11111111-aaaa",
    ]
    assert all(share["TF_FORCE_GPU_ALLOW_GROWTH"] == "true" for share in found)
    assert "TF_FORCE_GPU_ALLOW_GROWTH" not in gpu_variables(2)[0]


def test_a_gpu_with_mig_is_used_through_its_instances(machine):
    machine(8, PARTS)
    assert gpus() == ["MIG-33333333-cccc", "MIG-44444444-dddd"]


@pytest.mark.parametrize(
    ("allowed", "found"), [("1,0", ["1", "0"]), ("GPU-x", ["GPU-x"]), ("", []), ("-1", []), ("0,-1,1", ["0"])]
)
def test_only_the_visible_gpus_are_used(machine, monkeypatch, allowed, found):
    machine(8, LISTED)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", allowed)
    assert gpus() == found
    assert ("CUDA_VISIBLE_DEVICES" in gpu_variables(1)[0]) == bool(found)


def test_without_gpus_there_are_no_variables(machine):
    machine(8)
    assert gpus() == [] and gpu_variables(2) == [{}, {}]
    machine(8, "")
    assert gpus() == []
