"""Models as services: export, a server that speaks TensorFlow Serving's REST and gRPC APIs, and its client."""

__all__ = ["Client"]


def __getattr__(name):
    if name == "Client":  # imports TensorFlow, which promote, rollback and compare do not need
        from keras_dl.serving.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
