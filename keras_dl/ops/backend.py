"""Parts that run only on TensorFlow."""

import keras


def require_tensorflow(name):
    """Raises an error if Keras runs on a backend other than TensorFlow.

    Args:
        name: str, what requires TensorFlow.

    Raises:
        ValueError: on JAX, torch and other backends.

    Example:

    >>> require_tensorflow("CTCLoss")
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"{name} requires the TensorFlow backend: set KERAS_BACKEND=tensorflow before Keras is imported. "
            f"Received: backend {keras.backend.backend()!r}"
        )
