"""Where runs go, what they hold, and which model is the champion; on MLflow."""

import os

# Read by MLflow when it is first imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
