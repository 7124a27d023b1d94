"""Releasing trained models: evaluation, registry, champions, exports and their retention."""

import keras_dl.tracking  # noqa: F401  sets the variables that MLflow reads when it is imported
