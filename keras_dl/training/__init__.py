"""Training with one set of values, releasing the best model, and reproducing a run."""
