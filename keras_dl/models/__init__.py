"""Models: functions that build a functional `keras.Model`, and `keras.Model` subclasses with their own `fit`."""

from keras_dl.models.echo_state_network import EchoStateNetwork as EchoStateNetwork
from keras_dl.models.forecaster import forecaster as forecaster
from keras_dl.models.forecaster import free_run as free_run
from keras_dl.models.forecaster import train_forecaster as train_forecaster
from keras_dl.models.forecasting_network import ForecastingNetwork as ForecastingNetwork
from keras_dl.models.language_model import language_model as language_model
from keras_dl.models.language_model import one_step as one_step
from keras_dl.models.recogniser import recogniser as recogniser
from keras_dl.models.recogniser import speech_recogniser as speech_recogniser
