"""The oracle of a distributed search as a worker sees it."""

import re
import sys
import threading
import time
from collections.abc import Callable

import grpc
import keras_tuner as kt
from keras_tuner.src import protos
from keras_tuner.src.engine.metrics_tracking import MetricsTracker
from keras_tuner.src.engine.trial import Trial, TrialStatus

from keras_dl.errors import UserError
from keras_dl.tuning.distributed.protocol import WORKER_OPTIONS, pack, unpack

PATIENCE = 3600.0  # seconds in which a chief may start or come back
ANSWER = 15.0  # seconds for one answer; every call may be repeated without harm
IDLE = 0.5  # seconds between two questions for a trial
MESSAGE = 2**16  # characters of a traceback, its end
_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


class ChiefRefused(kt.errors.FatalError, UserError):
    """The chief will not go on with this worker, or is gone. Fatal: no trial is to blame."""


class ChiefClient(kt.Oracle):
    """Asks the chief whatever Keras Tuner asks an oracle; waits for a chief that is not there (yet, or for a while).

    While the context is entered, a thread tells the chief every few seconds that this worker lives; on leaving, it says
    goodbye, so that an unfinished trial goes to another worker at once.

    Args:
        address: `"HOST:PORT"` of the chief.
        name: str, of this worker, unlike all others. One that starts again under its name gets its trial back.
        identity: of the pipeline, see `protocol.identity`.
        died: how the process that had this name before ended: `{"reason": str, "crash": bool}`. None (default) if
            there was none.
        begun: called whenever a trial is given to this worker. Defaults to nothing.
        patience: seconds to wait for a chief. Defaults to an hour.

    Attributes:
        facts: what the chief told of the search.
        lost: bool, whether the trial that was reported last is no longer this worker's: what it says is not counted.

    Raises:
        ChiefRefused: on any call, if the versions or the pipeline differ from the chief's, if the search failed, or if
            no chief answered.
    """

    def __init__(
        self,
        address: str,
        name: str,
        identity: dict,
        died: dict | None = None,
        begun: Callable[[], None] = lambda: None,
        patience: float = PATIENCE,
    ):
        self.address, self.name, self._begun, self._patience = address, name, begun, patience
        self._caller = {**identity, "name": name, "started": time.time_ns(), "died": died}
        self._channel = grpc.insecure_channel(address, options=WORKER_OPTIONS)
        self._stub = protos.get_service_grpc().OracleStub(self._channel)
        self._messages = protos.get_service()
        self._left = threading.Event()
        self.lost = False
        self.facts = self._call("GetSpace", self._messages.GetSpaceRequest())[1]["facts"]
        self._caller["search"] = self.facts["search"]
        super().__init__(kt.Objective(*self.facts["objective"]), max_trials=self.facts["max_trials"])

    def __enter__(self):
        threading.Thread(target=self._live, daemon=True, name="heartbeat").start()
        return self

    def __exit__(self, *error):
        self._left.set()
        self._sign("leaving", True)
        self._channel.close()

    def get_space(self):
        response, _ = self._call("GetSpace", self._messages.GetSpaceRequest())
        return kt.HyperParameters.from_proto(response.hyperparameters)

    def update_space(self, hyperparameters):
        self._call("UpdateSpace", self._messages.UpdateSpaceRequest(hyperparameters=hyperparameters.to_proto()))

    def create_trial(self, tuner_id=None):
        """The next trial of this worker, waited for; its status is RUNNING or STOPPED."""
        request = self._messages.CreateTrialRequest(tuner_id=self.name)
        while True:
            response, said = self._call("CreateTrial", request)
            (trial,) = _trials([response.trial], said)
            if trial.status == TrialStatus.RUNNING:
                self.lost = False
                self._begun()
            if trial.status != TrialStatus.IDLE:
                return trial
            time.sleep(IDLE)

    def update_trial(self, trial_id, metrics, step=0):
        """Reports an epoch. The status of the trial returned is STOPPED if it should end now; its metrics are empty."""
        metrics = {name: float(value) for name, value in metrics.items()}
        request = self._messages.UpdateTrialRequest(trial_id=trial_id, metrics=metrics, step=step)
        response, said = self._call("UpdateTrial", request, metrics=metrics)
        self.lost = said["lost"]
        return Trial.from_proto(response.trial)

    def end_trial(self, trial):
        request = self._messages.EndTrialRequest(trial=trial.to_proto())
        message = trial.message[-MESSAGE:] if trial.message else None
        self._call("EndTrial", request, message=message)

    def get_trial(self, trial_id):
        response, said = self._call("GetTrial", self._messages.GetTrialRequest(trial_id=trial_id))
        return _trials([response.trial], said)[0]

    def get_best_trials(self, num_trials=1):
        request = self._messages.GetBestTrialsRequest(num_trials=num_trials)
        response, said = self._call("GetBestTrials", request)
        return _trials(response.trials, said)

    def save(self):
        """The chief keeps the oracle's state."""

    def reload(self):
        """The chief keeps the oracle's state."""

    def _call(self, name, request, **said):
        method, metadata = getattr(self._stub, name), pack({**self._caller, **said})
        began, complained = time.monotonic(), False
        while True:
            try:
                response, call = method.with_call(
                    request, metadata=metadata, wait_for_ready=True, timeout=min(ANSWER, self._patience)
                )
            except grpc.RpcError as error:
                if error.code() not in _GONE:
                    raise ChiefRefused(error.details()) from None
                if time.monotonic() - began > self._patience:
                    raise ChiefRefused(f"no chief answered at {self.address} in {self._patience:g} seconds") from None
                if not complained and error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                    complained = True
                    _say(f"no chief answers at {self.address}; waiting for it, an hour at most")
            else:
                if complained:
                    _say("the chief is there")
                return response, unpack(call.trailing_metadata())

    def _live(self):
        while not self._left.wait(self.facts["lease"] / 12):
            self._sign("alive", True)

    def _sign(self, name, value):
        request = self._messages.UpdateSpaceRequest()
        try:
            self._stub.UpdateSpace(request, metadata=pack({**self._caller, name: value}), timeout=5)
        except (grpc.RpcError, ValueError):  # no chief for now, or a channel that is closed: the next real call tells
            return


def _trials(protos, said):
    trials = [Trial.from_proto(proto) for proto in protos]
    for trial, exact in zip(trials, said["trials"], strict=True):
        if not re.fullmatch("[0-9a-f]+", trial.trial_id):  # it will name a folder here
            raise ChiefRefused(f"expected a trial's number from the chief. Received: {trial.trial_id!r}")
        trial.metrics = MetricsTracker.from_config(exact["metrics"])
        trial.score, trial.best_step, trial.message = exact["score"], exact["best_step"], exact["message"]
    return trials


def _say(sentence):
    print(f"keras-dl: {sentence}", file=sys.stderr, flush=True)
