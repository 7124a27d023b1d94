"""Export of models as SavedModels: writing, testing, measuring, and checking for problems."""
