"""Models as services: export, a server that speaks TensorFlow Serving's REST and gRPC APIs, and its client."""

from keras_dl.serving.client import Client

__all__ = ["Client"]
