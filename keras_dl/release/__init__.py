"""A trained model's release: evaluated, registered, compared with the champion, exported, and kept or removed."""

import keras_dl.tracking  # noqa: F401  sets the variables that MLflow reads when it is imported
