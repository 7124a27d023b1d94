"""The chief of a distributed search: gives trials to workers, of this machine and of others, and loses none."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import keras_tuner as kt
from keras_tuner.src import protos
from keras_tuner.src.engine.trial import Trial, TrialStatus

from keras_dl.errors import UserError
from keras_dl.tuning.distributed.protocol import CHIEF_OPTIONS, difference
from keras_dl.tuning.distributed.servicer import Servicer, holding

CRASHES = 3  # of its workers, without a finished epoch in between: a trial has failed
DEATHS = 20  # the same, those counted in that somebody else brought about, such as kill -9
FAREWELL = 10.0  # seconds in which workers are told that the search is over


class Chief:
    """Serves an oracle over Keras Tuner's gRPC protocol, in threads of this process, while the context is entered.

    A trial belongs to the worker that got it. A worker that starts again under its name gets it back; one that is
    silent for a whole lease loses it to another, and is told to stop it should it come back. What a worker says of a
    trial that is no longer its own is not counted. A trial that its workers do not survive is FAILED.

    Args:
        oracle: whose trials are given away; it has `release(worker)`, which gives up that worker's trial.
        host: address to listen on. Defaults to `"127.0.0.1"`, this machine only.
        port: int; 0 (default) takes a free one, which `port` tells afterwards.
        facts: what workers must know, as JSON can say it: `identity` of the pipeline, `"search"` (id of the search),
            and whatever `run_worker` needs.
        lease: seconds that a worker may be silent. Defaults to 60.

    Raises:
        UserError: on entering, if the port is taken or the host is not of this machine.
    """

    def __init__(self, oracle: kt.Oracle, host: str, port: int, facts: dict, lease: float = 60.0):
        objective = [oracle.objective.name, oracle.objective.direction]
        self.facts = {**facts, "objective": objective, "max_trials": oracle.max_trials, "lease": lease}
        self.oracle, self.host, self.port, self.lease = oracle, host, port, lease
        self._began = time.monotonic()
        self._callers = {}  # name -> what it last said of itself
        self._heard = {}  # name -> when
        self._dismissed = set()  # names of those that know that the search is over
        self._died = {}  # name -> how its predecessor ended, until it asks for a trial
        self._deaths = {}  # trial id -> how its workers ended, since its last finished epoch
        self._lock = threading.Lock()
        self._stopped = False  # the oracle has no further trial
        self.error = None  # of the oracle, which ended the search

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
        """Returns when every trial has ended and the workers know it.

        Args:
            supervisor: `Supervisor` of the workers of this machine, which is kept going meanwhile; None (default) if
                all are elsewhere.

        Raises:
            UserError: when the supervisor has given all its workers up and there are no others.
            Exception: what the oracle raised, such as OSError for a full disk.
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
        """Those that were heard of within their lease, and neither left nor know that the search is over."""
        now = time.monotonic()
        with self._lock:
            heard = [name for name, heard in self._heard.items() if now - heard < self.lease]
            return sorted(set(heard) - self._dismissed)

    def release(self, worker: str) -> None:
        """Gives up the trial of a worker that will not come back: the next one that asks gets it."""
        with holding(self.oracle):
            self._forget(worker)
            if worker in self.oracle.ongoing_trials:
                self.oracle.release(worker)

    def admit(self, caller: dict) -> None:
        """Notes who calls.

        Raises:
            UserError: if it is none of this search's workers.
        """
        name, started = caller.get("name"), caller.get("started")
        if not isinstance(name, str) or not isinstance(started, int):
            raise UserError("this is a chief of keras-dl tune: it works with `keras-dl worker` only")
        reason = difference(self.facts, caller)
        if reason is None and caller.get("search") not in (None, self.facts["search"]):
            reason = "the chief began another search meanwhile: start the worker again"
        with self._lock:
            earlier = self._callers.get(name)
            if reason is None and earlier is not None and started < earlier["started"]:
                reason = "another worker was started under the same name"
            if reason is not None:
                raise UserError(f"worker {name} is not of use: {reason}")
            if earlier is not None and started > earlier["started"]:
                self._died[name] = caller.get("died") or {}
            self._callers[name], self._heard[name] = caller, time.monotonic()

    def fail(self, error: Exception) -> None:
        """Ends the search: `wait` raises the error."""
        self.error = self.error or error

    def give(self, worker: str) -> Trial:
        """The trial that a worker has or gets; IDLE if there may be one later, STOPPED if there is none left."""
        own, died = self.oracle.ongoing_trials.get(worker), self._died.pop(worker, None)
        if own is not None and died is not None:
            self._count(own, died)
        trial = self.oracle.create_trial(worker)
        if trial.status != TrialStatus.STOPPED:
            return trial
        if self.oracle.ongoing_trials:  # those of others; should one of them be lost, somebody must take it over
            return Trial(trial.hyperparameters, trial.trial_id, TrialStatus.IDLE)
        self._stopped = True
        self._dismissed.add(worker)  # it lives on for a while, to bring its last results to the store
        return trial

    def owns(self, worker: str, trial_id: str) -> bool:
        own = self.oracle.ongoing_trials.get(worker)
        return own is not None and own.trial_id == trial_id

    def progressed(self, trial_id: str) -> None:
        """Notes that a trial finished an epoch."""
        self._deaths.pop(trial_id, None)

    def _count(self, trial, died):
        deaths = self._deaths.setdefault(trial.trial_id, [])
        deaths.append(died)
        if len(deaths) < DEATHS and sum(bool(death.get("crash")) for death in deaths) < CRASHES:
            return
        last = died.get("reason", "it was started again")
        message = f"its worker died {len(deaths)} times without finishing an epoch of it; the last time: {last}"
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
                    self._count(trial, {"reason": f"nothing was heard of it for {self.lease:g} seconds"})
                    self._forget(worker)
                    if worker in self.oracle.ongoing_trials:
                        self.oracle.release(worker)

    def _forget(self, worker):
        with self._lock:
            self._heard.pop(worker, None)
