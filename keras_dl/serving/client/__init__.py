"""A client for TensorFlow Serving and for the server of this package, over REST or gRPC."""

from keras_dl.serving.client.client import Client

__all__ = ["Client"]
