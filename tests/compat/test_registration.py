"""A saved model is loaded after `import keras_dl` alone."""

import subprocess
import sys

import keras
import numpy as np

from keras_dl import layers

LOAD = """
import sys
import keras_dl
assert not {"keras", "tensorflow"} & set(sys.modules), "import keras_dl imports Keras"
import keras
assert "keras_dl.layers" not in sys.modules, "import keras imports the layers"
model = keras.saving.load_model(sys.argv[1])
print([type(layer).__name__ for layer in model.layers], type(model.loss).__name__)
"""


def test_a_saved_model_loads_after_importing_the_package_alone(tmp_path):
    from keras_dl.losses import FramewiseCrossEntropy
    from keras_dl.migration import hard_sigmoid

    model = keras.Sequential([keras.Input((5, 3)), layers.PeepholeLSTM(4, return_sequences=True)])
    model.add(keras.layers.Dense(2, activation=hard_sigmoid))
    model.compile("sgd", FramewiseCrossEntropy())
    model.fit(np.ones((1, 5, 3)), np.ones((1, 5)), verbose=0)
    model.save(tmp_path / "model.keras")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD, tmp_path / "model.keras"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['PeepholeLSTM', 'Dense'] FramewiseCrossEntropy\n"


def test_every_registered_name_is_found_and_unknown_ones_are_not():
    registered = keras.saving.get_custom_objects()
    assert "keras_dl>Nothing" not in registered
    assert {"keras_dl>ESN", "keras_dl>NRMSE", "keras_dl>Seq2Seq", "keras_dl>hard_sigmoid"} <= set(registered)
    assert keras.saving.get_registered_object("keras_dl>ESN") is layers.ESN
