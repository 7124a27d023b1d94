"""A client of TensorFlow Serving and of our server, over REST or gRPC."""

from keras_dl.serving.client.client import Client

__all__ = ["Client"]
