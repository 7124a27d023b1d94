"""Runs scripts with TensorFlow Addons in a separate process, because Addons requires Keras 2 and the tests Keras 3."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

_IMPORTS = """
import os
os.environ.update(TF_USE_LEGACY_KERAS="1", TF_ADDONS_PY_OPS="1", TF_CPP_MIN_LOG_LEVEL="3")
import json, sys, keras, numpy as np, tensorflow as tf
try:
    import tf_keras.src.engine.keras_tensor
    sys.modules["keras.src.engine"] = sys.modules["tf_keras.src.engine"]
    import tensorflow_addons as tfa
except ImportError as error:
    print(json.dumps({"missing": str(error)}))
    sys.exit()
del sys.modules["keras.src.engine"]
"""


def run_beside_addons(script, data=None):
    """Runs a script and returns the JSON in the last line of its output; skips the test if Addons are not installed.

    Args:
        script: str; json, sys, keras (version 3), np, tf and tfa are already imported.
        data: passed to the script as JSON on its standard input.
    """
    if not importlib.util.find_spec("tensorflow_addons"):
        pytest.skip("the extra `addons` is not installed")
    result = subprocess.run(
        [sys.executable, "-c", _IMPORTS + script],
        env=dict(os.environ), input=json.dumps(data), capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    if "missing" in found:
        pytest.skip(f"the extra `addons` is not installed completely: {found['missing']}")
    return found
