"""A pipeline and one set of values -> a trained model; what is done with every best model; doing it again."""
