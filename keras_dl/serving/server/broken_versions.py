"""Why a version did not load, in words for its status."""

import os
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import error_codes_pb2


def explain(error: Exception, folder: Path, name: str) -> tuple[str, str]:
    """The canonical code and the first telling line of a failure to load, with the model's name for its folder."""
    text = error.message if isinstance(error, tf.errors.OpError) else str(error)
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("Graph execution error")]
    if isinstance(error, tf.errors.OpError):
        code = error_codes_pb2.Code.Name(error.error_code)
    elif isinstance(error, OSError):
        code = "PERMISSION_DENIED" if isinstance(error, PermissionError) else "NOT_FOUND"
    else:
        code = "UNKNOWN"
    line = lines[0] if lines else type(error).__name__
    return code, line.replace(os.path.realpath(folder), name).replace(str(folder), name)
