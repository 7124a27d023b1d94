"""Answers the calls of Keras Tuner's protocol for a chief."""

import contextlib
import functools
import threading

import grpc
import keras_tuner as kt
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_chief import OracleServicer
from keras_tuner.src.engine import oracle as kt_oracle
from keras_tuner.src.engine.trial import Trial, TrialStatus

from keras_dl.errors import UserError
from keras_dl.tuning.distributed.protocol import pack, unpack


@contextlib.contextmanager
def holding(oracle):
    """Holds Keras Tuner's lock of an oracle.

    Keras Tuner's `synchronized` does not release the lock if the method raises, unless the lock was held before.
    """
    with kt_oracle.LOCKS[oracle]:
        kt_oracle.THREADS[oracle] = threading.current_thread().name
        try:
            yield
        finally:
            kt_oracle.THREADS[oracle] = None


def _answering(method):
    """Turns a method `(request, caller's name, its metadata) -> (response, metadata)` into one of the protocol."""

    @functools.wraps(method)
    def answer(self, request, context):
        try:
            said = unpack(context.invocation_metadata())
            self.chief.admit(said)
        except (UserError, ValueError) as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
        if self.chief.error is not None:
            context.abort(grpc.StatusCode.ABORTED, _sentence(self.chief.error))
        try:
            response, metadata = method(self, request, said["name"], said)
        except Exception as error:  # an error of the oracle: the search has failed
            self.chief.fail(error)
            context.abort(grpc.StatusCode.ABORTED, _sentence(error))
        context.set_trailing_metadata(pack(metadata))
        return response

    return answer


def _sentence(error):
    return f"the search failed at the chief: {type(error).__name__}: {error}"[:4000]


def _exact(trial):
    """Returns the fields that the message of a trial lacks or has in single precision only."""
    state = trial.get_state()
    return {name: state[name] for name in ("metrics", "score", "best_step", "message")}


class Servicer(OracleServicer):
    """The calls of the protocol, as a `Chief` answers them."""

    def __init__(self, chief):
        super().__init__(chief.oracle)
        self.chief = chief
        self.messages = protos.get_service()

    @_answering
    def GetSpace(self, request, worker, said):
        with holding(self.oracle):
            space = self.oracle.get_space().to_proto()
        return self.messages.GetSpaceResponse(hyperparameters=space), {"facts": self.chief.facts}

    @_answering
    def UpdateSpace(self, request, worker, said):
        if said.get("leaving"):
            self.chief.release(worker)
        elif request.hyperparameters.ByteSize():  # otherwise a heartbeat, which needs no lock
            with holding(self.oracle):
                self.oracle.update_space(kt.HyperParameters.from_proto(request.hyperparameters))
        return self.messages.UpdateSpaceResponse(), {}

    @_answering
    def CreateTrial(self, request, worker, said):
        with holding(self.oracle):
            trial = self.chief.give(worker)
            return self.messages.CreateTrialResponse(trial=trial.to_proto()), {"trials": [_exact(trial)]}

    @_answering
    def UpdateTrial(self, request, worker, said):
        with holding(self.oracle):
            lost = not self.chief.owns(worker, request.trial_id)
            if lost:
                trial = Trial(self.oracle.get_space(), request.trial_id, TrialStatus.STOPPED)
            else:
                metrics = said.get("metrics") or dict(request.metrics)
                trial = self.oracle.update_trial(request.trial_id, metrics, step=request.step)
                self.chief.progressed(request.trial_id)
            return self.messages.UpdateTrialResponse(trial=trial.to_proto()), {"lost": lost}

    @_answering
    def EndTrial(self, request, worker, said):
        trial = Trial.from_proto(request.trial)
        trial.message = said.get("message")
        with holding(self.oracle):
            if self.chief.owns(worker, trial.trial_id):
                self.oracle.end_trial(trial)
        return self.messages.EndTrialResponse(), {}

    @_answering
    def GetTrial(self, request, worker, said):
        with holding(self.oracle):
            trial = self.oracle.get_trial(request.trial_id)
            return self.messages.GetTrialResponse(trial=trial.to_proto()), {"trials": [_exact(trial)]}

    @_answering
    def GetBestTrials(self, request, worker, said):
        with holding(self.oracle):
            trials = self.oracle.get_best_trials(request.num_trials)
            response = self.messages.GetBestTrialsResponse(trials=[trial.to_proto() for trial in trials])
            return response, {"trials": [_exact(trial) for trial in trials]}
