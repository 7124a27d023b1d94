"""A pipeline -> a Keras Tuner search with one MLflow run per trial."""
