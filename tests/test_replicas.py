"""Losses and metrics on several devices equal those on one device; the work is done in `replicas.py`."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np


def test_losses_and_metrics_of_several_replicas_equal_those_of_one_device():
    script = Path(__file__).with_name("replicas.py")
    done = subprocess.run([sys.executable, "-W", "ignore", script], stdout=subprocess.PIPE, text=True, check=True)
    for expected, found in json.loads(done.stdout):
        assert found.keys() == expected.keys()
        wrong = [name for name in found if not np.allclose(found[name], expected[name], rtol=2e-5, atol=1e-6)]
        assert not wrong, {name: (expected[name], found[name]) for name in wrong}
