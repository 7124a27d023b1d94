"""The worker's proxy for the oracle of a distributed search."""

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

PATIENCE = 3600.0  # seconds to wait for a chief to start or come back
ANSWER = 15.0  # seconds to wait for an answer; every call can safely be repeated
IDLE = 0.5  # seconds between two requests for a trial
MESSAGE = 2**16  # characters of a traceback to send, from its end
_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


class ChiefRefused(kt.errors.FatalError, UserError):
    """The chief rejected this worker or does not answer. Fatal, since the trial is not the cause."""


class ChiefClient(kt.Oracle):
    """Forwards Keras Tuner's calls of an oracle to the chief; waits for a chief that does not answer.

    While the context is entered, a thread sends a heartbeat to the chief every few seconds. On exit, the chief is
    informed, so that an unfinished trial is assigned to another worker immediately. Any call raises ChiefRefused if the
    versions or the pipeline differ from the chief's, if the search failed, or if no chief answered.

    Args:
        address: `"HOST:PORT"` of the chief.
        name: unique name of this worker. A worker that restarts under the same name gets its trial back.
        identity: the pipeline's, from `protocol.identity`.
        died: how the previous process of this name ended: `{"reason": str, "crash": bool}`. None (default) if there
            was none.
        begun: called whenever this worker receives a trial. Defaults to no action.
        patience: seconds to wait for a chief. Defaults to an hour.

    Attributes:
        facts: the chief's description of the search.
        lost: whether the last reported trial no longer belongs to this worker, so that its reports are ignored.
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
        """Waits for the next trial of this worker; its status is RUNNING or STOPPED."""
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
        """Reports an epoch. The returned trial has no metrics; its status is STOPPED if it should end now."""
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
                    _say(f"no chief answers at {self.address}; waiting for up to {self._patience:g} seconds")
            else:
                if complained:
                    _say("the chief answers")
                return response, unpack(call.trailing_metadata())

    def _live(self):
        while not self._left.wait(self.facts["lease"] / 12):
            self._sign("alive", True)

    def _sign(self, name, value):
        request = self._messages.UpdateSpaceRequest()
        try:
            self._stub.UpdateSpace(request, metadata=pack({**self._caller, name: value}), timeout=5)
        except (grpc.RpcError, ValueError):  # no chief, or a closed channel: the next call reports it
            return


def _trials(protos, said):
    trials = [Trial.from_proto(proto) for proto in protos]
    for trial, exact in zip(trials, said["trials"], strict=True):
        if not re.fullmatch("[0-9a-f]+", trial.trial_id):  # it becomes the name of a folder
            raise ChiefRefused(f"expected a trial's number from the chief. Received: {trial.trial_id!r}")
        trial.metrics = MetricsTracker.from_config(exact["metrics"])
        trial.score, trial.best_step, trial.message = exact["score"], exact["best_step"], exact["message"]
    return trials


def _say(sentence):
    print(f"keras-dl: {sentence}", file=sys.stderr, flush=True)
