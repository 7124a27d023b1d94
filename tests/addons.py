"""The real TensorFlow Addons, in a process of its own: it needs Keras 2, and the rest of the tests Keras 3."""

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


def run_beside_addons(script, given=None):
    """What a script prints as JSON in its last line; skips the test where Addons are not installed.

    Args:
        script: str; it finds json, sys, keras (3), np, tf and tfa imported.
        given: what it may read as JSON from its input.
    """
    answer = subprocess.run(
        [sys.executable, "-c", _IMPORTS + script],
        env=dict(os.environ), input=json.dumps(given), capture_output=True, text=True,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout.splitlines()[-1])
    if "missing" in found:
        pytest.skip(f"the extra `addons` is not installed, or not whole: {found['missing']}")
    return found
