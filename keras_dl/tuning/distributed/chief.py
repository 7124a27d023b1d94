"""The chief of a distributed search, which assigns trials to workers on this machine and on others."""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import keras_tuner as kt
from keras_tuner.src import protos
from keras_tuner.src.engine.trial import Trial, TrialStatus

from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline
from keras_dl.tuning.distributed.protocol import CHIEF_OPTIONS, difference, identity
from keras_dl.tuning.distributed.servicer import Servicer, holding
from keras_dl.tuning.distributed.supervisor import Supervisor
from keras_dl.tuning.distributed.workers import parse_address, worker_command

CRASHES = 3  # crashes of its workers, without a finished epoch in between, after which a trial has failed
DEATHS = 20  # the same, including deaths with an external cause, such as kill -9
FAREWELL = 10.0  # seconds to tell the workers that the search is over


class Chief:
    """Serves an oracle over Keras Tuner's gRPC protocol, in threads of this process, while the context is entered.

    A trial belongs to the worker that received it. A worker that restarts under the same name gets it back. The trial
    of a worker that is silent for a whole lease is assigned to another worker. If the first worker returns, it must
    stop the trial, and its reports are ignored. A trial whose workers die repeatedly is FAILED.

    Args:
        oracle: oracle with a method `release(worker)`, which returns that worker's trial to the queue.
        host: address to listen on; `"127.0.0.1"` serves this machine only.
        port: 0 takes a free port, which is then in the attribute `port`.
        facts: JSON values for the workers: `identity` of the pipeline, `"search"` (id of the search), and those that
            `run_worker` needs.
        lease: seconds that a worker may be silent. Defaults to 60.
    """

    def __init__(self, oracle: kt.Oracle, host: str, port: int, facts: dict, lease: float = 60.0):
        objective = [oracle.objective.name, oracle.objective.direction]
        self.facts = {**facts, "objective": objective, "max_trials": oracle.max_trials, "lease": lease}
        self.oracle, self.host, self.port, self.lease = oracle, host, port, lease
        self._began = time.monotonic()
        self._callers = {}  # name -> its last metadata
        self._heard = {}  # name -> time of its last call
        self._dismissed = set()  # names of the workers that know that the search is over
        self._died = {}  # name -> how its predecessor ended, until it asks for a trial
        self._deaths = {}  # trial id -> how its workers ended, since its last finished epoch
        self._lock = threading.Lock()
        self._stopped = False  # the oracle has no further trial
        self.error = None  # the error of the oracle that ended the search

    def __enter__(self):
        self._began = time.monotonic()
        pool = ThreadPoolExecutor(16, thread_name_prefix=f"chief-{id(self)}")
        self._server = grpc.server(pool, options=CHIEF_OPTIONS)
        protos.get_service_grpc().add_OracleServicer_to_server(Servicer(self), self._server)
        try:
            self.port = self._server.add_insecure_port(f"{self.host}:{self.port}")
        except RuntimeError:
            raise UserError(
                f"cannot listen on {self.host}:{self.port}: the port is taken, or this machine has no such address"
            ) from None
        self._server.start()
        return self

    def __exit__(self, *error):
        self._server.stop(grace=1).wait()

    def wait(self, supervisor=None):
        """Returns when every trial has ended and the workers know it; raises an error of the oracle, such as a full
        disk.

        With a `Supervisor` of the workers on this machine, `check` is called repeatedly, and UserError is raised if all
        its workers were abandoned and there are no others.
        """
        while not self._over():
            if self.error is not None:
                raise self.error
            self._expire()
            if supervisor is not None:
                supervisor.check()
                if not supervisor.running and not self.workers:
                    raise supervisor.error
            time.sleep(0.1)
        end = time.monotonic() + FAREWELL
        while self.workers and time.monotonic() < end:
            self._expire()
            time.sleep(0.1)

    @property
    def workers(self) -> list[str]:
        """Names of the workers that called within their lease and have neither left nor been dismissed."""
        now = time.monotonic()
        with self._lock:
            heard = [name for name, heard in self._heard.items() if now - heard < self.lease]
            return sorted(set(heard) - self._dismissed)

    def release(self, worker: str) -> None:
        """Puts the trial of a lost worker back into the queue."""
        with holding(self.oracle):
            self._forget(worker)
            if worker in self.oracle.ongoing_trials:
                self.oracle.release(worker)

    def admit(self, caller: dict) -> None:
        """Registers the worker that calls; UserError if the caller is not a worker of this search."""
        name, started = caller.get("name"), caller.get("started")
        if not isinstance(name, str) or not isinstance(started, int):
            raise UserError("this is a chief of keras-dl tune; it serves only `keras-dl worker`")
        reason = difference(self.facts, caller)
        if reason is None and caller.get("search") not in (None, self.facts["search"]):
            reason = "the chief has started another search: restart the worker"
        with self._lock:
            earlier = self._callers.get(name)
            if reason is None and earlier is not None and started < earlier["started"]:
                reason = "another worker was started under the same name"
            if reason is not None:
                raise UserError(f"worker {name} rejected: {reason}")
            if earlier is not None and started > earlier["started"]:
                self._died[name] = caller.get("died") or {}
            self._callers[name], self._heard[name] = caller, time.monotonic()

    def fail(self, error: Exception) -> None:
        """Ends the search: `wait` raises the error."""
        self.error = self.error or error

    def give(self, worker: str) -> Trial:
        """Returns the worker's current or next trial; IDLE if there may be one later, STOPPED if none is left."""
        own, died = self.oracle.ongoing_trials.get(worker), self._died.pop(worker, None)
        if own is not None and died is not None:
            self._count(own, died)
        trial = self.oracle.create_trial(worker)
        if trial.status != TrialStatus.STOPPED:
            return trial
        if self.oracle.ongoing_trials:  # if another worker is lost, this one takes over its trial
            return Trial(trial.hyperparameters, trial.trial_id, TrialStatus.IDLE)
        self._stopped = True
        self._dismissed.add(worker)  # it still has to deliver its last results to the store
        return trial

    def owns(self, worker: str, trial_id: str) -> bool:
        own = self.oracle.ongoing_trials.get(worker)
        return own is not None and own.trial_id == trial_id

    def progressed(self, trial_id: str) -> None:
        """Records that a trial finished an epoch."""
        self._deaths.pop(trial_id, None)

    def _count(self, trial, died):
        deaths = self._deaths.setdefault(trial.trial_id, [])
        deaths.append(died)
        if len(deaths) < DEATHS and sum(bool(death.get("crash")) for death in deaths) < CRASHES:
            return
        last = died.get("reason", "it was restarted")
        message = f"its worker died {len(deaths)} times without finishing one of its epochs; most recently: {last}"
        self.oracle.end_trial(Trial(trial.hyperparameters, trial.trial_id, TrialStatus.FAILED, message))

    def _over(self):
        with holding(self.oracle):
            oracle = self.oracle
            exhausted = oracle.max_trials and len(oracle.trials) >= oracle.max_trials and not oracle._retry_queue
            return not oracle.ongoing_trials and bool(self._stopped or exhausted)

    def _expire(self):
        now = time.monotonic()
        with holding(self.oracle):
            for worker, trial in list(self.oracle.ongoing_trials.items()):
                if now - self._heard.get(worker, self._began) >= self.lease:
                    self._count(trial, {"reason": f"it was silent for {self.lease:g} seconds"})
                    self._forget(worker)
                    if worker in self.oracle.ongoing_trials:
                        self.oracle.release(worker)

    def _forget(self, worker):
        with self._lock:
            self._heard.pop(worker, None)


def serve_search(
    oracle: kt.Oracle, pipeline: Pipeline, facts: dict, folder: Path, workers: int, address: str | None = None
) -> None:
    """Runs all trials of an oracle in worker processes; returns when the last has ended.

    Args:
        oracle: oracle of the search, with its state restored if the search is resumed.
        pipeline: the pipeline.
        facts: JSON values for the workers: `"search"`, the search's id; `"run_id"` of its MLflow run; and
            `"arguments"`, from `Plan.arguments`.
        folder: folder of the search's state, and of the workers' output: `worker-0.log` and so on.
        workers: number of processes on this machine; 0 requires an address.
        address: `"HOST:PORT"`, on which workers on other machines are served; None (default) for this machine only.
    """
    host, port = parse_address(address) if address else ("127.0.0.1", 0)
    names = [f"worker-{index}" for index in range(workers)]
    if not address:
        for gone in set(oracle.ongoing_trials) - set(names):  # of more workers than now
            oracle.release(gone)
    with Chief(oracle, host, port, {**identity(pipeline), **facts}) as chief:
        if address:
            print(
                f"chief at {host}:{chief.port}; on each other machine: "
                f"keras-dl worker THIS_MACHINE:{chief.port} {pipeline.file.name}",
                file=sys.stderr,
                flush=True,
            )
        everywhere = host in ("0.0.0.0", "[::]", "localhost")
        command = worker_command(f"{'127.0.0.1' if everywhere else host}:{chief.port}", pipeline.file)
        with Supervisor(command, names, folder, gone=chief.release) as supervisor:
            chief.wait(supervisor if names else None)
