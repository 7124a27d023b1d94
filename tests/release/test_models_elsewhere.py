"""A logged model can be loaded with mlflow.pyfunc without keras_dl and gives the same outputs."""

import subprocess
import sys

import keras
import mlflow
import numpy as np

from keras_dl.layers import ESN, CTCOutput, PeepholeLSTM
from keras_dl.models import EchoStateNetwork
from keras_dl.release import registry
from keras_dl.release.models import load_version, log_model
from keras_dl.tracking.runs import connect, open_run

# Loads each model and predicts. Importing keras_dl raises an ImportError.
ELSEWHERE = """
import os, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "keras_dl":
            raise ImportError("keras_dl is not installed")
sys.meta_path.insert(0, Refuse())
import numpy as np, mlflow
mlflow.set_tracking_uri(sys.argv[1])
for line in sys.stdin:
    uri, given, file = line.split()
    stored = np.load(given)
    x = stored["x"] if stored.files == ["x"] else {name: stored[name] for name in stored.files}
    model = mlflow.pyfunc.load_model(uri)
    assert model.metadata.signature and model.input_example is not None
    np.save(file, model.predict(x))
assert not any(name.startswith("keras_dl") for name in sys.modules)
"""


def predict_elsewhere(project, folder, requests):
    """Returns the predictions of logged models, `[(uri, input)]`, from another process."""
    lines = []
    for index, (uri, x) in enumerate(requests):
        np.savez(folder / f"{index}.npz", **(x if isinstance(x, dict) else {"x": x}))
        lines.append(f"{uri} {folder / f'{index}.npz'} {folder / f'{index}.npy'}\n")
    command = [sys.executable, "-c", ELSEWHERE, project.tracking_uri]
    done = subprocess.run(command, input="".join(lines), capture_output=True, text=True, cwd=folder, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return [np.load(folder / f"{index}.npy") for index in range(len(requests))]


def recogniser():
    signal = keras.Input((None, 2), name="signal")
    x = keras.layers.Bidirectional(PeepholeLSTM(4, return_sequences=True))(keras.layers.Masking()(signal))
    return keras.Model(signal, CTCOutput(list("abc"))(x))


def two_inputs():
    inputs = {"signal": keras.Input((None, 2), name="signal"), "speaker": keras.Input((3,), name="speaker")}
    x = ESN(12)(keras.layers.Masking()(inputs["signal"]))
    x = keras.layers.Concatenate()([x, inputs["speaker"]])
    return keras.Model(inputs, keras.layers.Dense(1)(x))


def forecaster():
    model = EchoStateNetwork(ESN(20), units=2, alpha=[1e-6], washout=2)
    model.compile(loss="mse")
    model.fit(signals(2, 40), verbose=0)
    return model


def signals(batch, time, features=2):
    return np.random.default_rng(time).normal(size=(batch, time, features)).astype("float32")


def padded(batch, time):
    x = signals(batch, time)
    x[0, time // 2 :] = 0
    return x


MODELS = {
    recogniser: padded,
    two_inputs: lambda batch, time: {"signal": padded(batch, time), "speaker": np.full((batch, 3), 0.5, "float32")},
    forecaster: signals,
}


def test_models_with_our_layers_do_not_require_keras_dl(project, tmp_path):
    connect(project, "speech")
    requests, expected = [], []
    for build, make in MODELS.items():
        keras.utils.set_random_seed(1)
        model = build()
        with open_run(project, build.__name__) as run:
            uri = log_model(model, make(2, 6))
        assert "pyfunc" not in mlflow.get_run(run.info.run_id).data.tags, build.__name__
        x = make(3, 9)
        requests.append((uri, x))
        expected.append(model.predict(x, verbose=0))
        if build is recogniser:
            registry.register(project, "speech", uri, "loss", 0.5, "min", "same")
            loaded = load_version(registry.get_version("speech", 1), {})
            assert isinstance(loaded.layers[-1], CTCOutput)
            np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected[-1])
    for (uri, _), got, wanted in zip(requests, predict_elsewhere(project, tmp_path, requests), expected, strict=True):
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5, err_msg=uri)


class Untraceable(keras.layers.Layer):
    def call(self, x):
        return x * float(keras.ops.max(x))  # fails for symbolic tensors

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


def test_a_model_that_cannot_be_traced_is_logged_without_a_graph(project):
    signal = keras.Input((None, 2), name="signal")
    model = keras.Model(signal, Untraceable()(signal))
    connect(project, "speech")
    with open_run(project, "one") as run:
        uri = log_model(model, signals(2, 5))
    assert "needs keras_dl: TensorFlow cannot trace it" in mlflow.get_run(run.info.run_id).data.tags["pyfunc"]
    loaded = mlflow.keras.load_model(uri, custom_objects={"Untraceable": Untraceable})
    np.testing.assert_array_equal(loaded(signals(2, 5)), model(signals(2, 5)))
