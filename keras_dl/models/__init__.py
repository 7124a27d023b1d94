"""Models: functions that build a functional `keras.Model`, and `keras.Model` subclasses with their own `fit`."""

from keras_dl.models.echo_state_network import EchoStateNetwork
from keras_dl.models.forecaster import forecaster, free_run, train_forecaster
from keras_dl.models.forecasting_network import ForecastingNetwork
from keras_dl.models.language_model import language_model, one_step
from keras_dl.models.recogniser import recogniser, speech_recogniser

__all__ = [
    "EchoStateNetwork",
    "ForecastingNetwork",
    "forecaster",
    "free_run",
    "language_model",
    "one_step",
    "recogniser",
    "speech_recogniser",
    "train_forecaster",
]
