"""A client for TensorFlow Serving and the embedded server, over REST or gRPC."""

from keras_dl.serving.client.client import Client

__all__ = ["Client"]
