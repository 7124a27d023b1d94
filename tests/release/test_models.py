"""Keras models stored as MLflow models give the same outputs, for any length."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.errors import UserError
from keras_dl.layers import ESN, CTCOutput, PeepholeLSTM
from keras_dl.models import EchoStateNetwork
from keras_dl.release import registry
from keras_dl.release.models import load_version, log_model
from keras_dl.tracking.runs import connect, open_run

from ..conftest import inside_project

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


def sequence_model():
    signal = keras.Input((None, 2), name="signal")
    x = keras.layers.GRU(3, return_sequences=True)(signal)
    return keras.Model(signal, keras.layers.Dense(4, name="classes")(x))


def two_inputs_model():
    signal, speaker = keras.Input((None, 2), name="signal"), keras.Input((3,), name="speaker")
    x = keras.layers.Concatenate()([keras.layers.GRU(3)(signal), speaker])
    return keras.Model([signal, speaker], keras.layers.Dense(1, name="pitch")(x))


def signals(batch, time, features=2):
    return np.random.default_rng(time).normal(size=(batch, time, features)).astype("float32")


@pytest.fixture(scope="module")
def stored(tmp_path_factory, empty_store):
    """A sequence model logged and registered as speech: the settings of its project, its URI, its run and itself."""
    keras.utils.set_random_seed(1)
    model = sequence_model()
    model.compile("adam", "mse")  # the optimizer has no variables yet, as after loading weights from a file
    with inside_project(tmp_path_factory.mktemp("stored"), empty_store) as settings:
        uri, run = log(settings, model, signals(2, 5))
        registry.register(settings, "speech", uri, "loss", 0.5, "min", "same")
    return settings, uri, run, model


@pytest.fixture
def logged(stored):
    """The URI, run and Keras model of this logged model, whose store is connected."""
    settings, *others = stored
    connect(settings, "speech")
    return others


def log(project, model, example):
    connect(project, "speech")
    with open_run(project, "one") as run:
        uri = log_model(model, example)
    return uri, run


def file_of(uri, name):
    return Path(mlflow.artifacts.download_artifacts(uri), name).read_text()


def test_keras_and_pyfunc_give_the_same_outputs(logged):
    uri, _, model = logged
    loaded, served = mlflow.keras.load_model(uri), mlflow.pyfunc.load_model(uri)
    for time in (5, 11):
        x = signals(3, time)
        expected = model.predict(x, verbose=0)
        assert expected.shape == (3, time, 4)
        np.testing.assert_array_equal(loaded.predict(x, verbose=0), expected)
        np.testing.assert_array_equal(served.predict(x), expected)
    with pytest.raises(mlflow.MlflowException, match="shape"):
        served.predict(signals(2, 5, features=3))


def test_the_signature_has_variable_axes_and_the_right_types(logged):
    uri, *_ = logged
    signature = mlflow.models.get_model_info(uri).signature
    (given,), (made,) = signature.inputs.inputs, signature.outputs.inputs
    assert (given.type, given.shape) == (np.dtype("float32"), (-1, -1, 2))
    assert (made.type, made.shape) == (np.dtype("float32"), (-1, -1, 4))


def test_the_input_example_is_stored(logged):
    uri, run, _ = logged
    np.testing.assert_allclose(mlflow.pyfunc.load_model(uri).input_example, signals(2, 5))
    assert json.loads(file_of(uri, "serving_input_example.json")).keys() == {"inputs"}
    (output,) = mlflow.get_run(run.info.run_id).outputs.model_outputs
    assert uri.endswith(output.model_id)  # the run lists its model


def test_the_requirements_are_versions_of_three_packages(logged):
    uri, *_ = logged
    lines = file_of(uri, "requirements.txt").split()
    versions = {f"tensorflow=={tf.__version__}", f"keras=={keras.__version__}", f"numpy=={np.__version__}"}
    assert versions <= set(lines)


def test_several_inputs_by_name(project):
    keras.utils.set_random_seed(1)
    model = two_inputs_model()
    example = {"signal": signals(2, 5), "speaker": np.ones((2, 3), "float32")}
    uri, _ = log(project, model, example)
    signature = mlflow.models.get_model_info(uri).signature
    assert {spec.name: spec.shape for spec in signature.inputs.inputs} == {"signal": (-1, -1, 2), "speaker": (-1, 3)}
    x = {"signal": signals(4, 9), "speaker": np.full((4, 3), 0.5, "float32")}
    expected = model.predict(x, verbose=0)
    np.testing.assert_array_equal(mlflow.keras.load_model(uri).predict(x, verbose=0), expected)
    served = mlflow.pyfunc.load_model(uri)
    np.testing.assert_array_equal(served.predict(x), expected)
    for name, array in example.items():
        np.testing.assert_allclose(served.input_example[name], array)


def test_several_outputs_by_name(project):
    signal = keras.Input((None, 2), name="signal")
    x = keras.layers.GRU(3)(signal)
    outputs = [keras.layers.Dense(1, name="pitch")(x), keras.layers.Dense(2, name="mood")(x)]
    model = keras.Model(signal, outputs)
    uri, run = log(project, model, signals(2, 5))
    assert mlflow.get_run(run.info.run_id).data.tags["pyfunc"] == "needs keras_dl: it has several outputs"
    made = mlflow.models.get_model_info(uri).signature.outputs.inputs
    assert [spec.shape for spec in made] == [(-1, 1), (-1, 2)] and all(spec.name for spec in made)
    x = signals(3, 7)
    for got, wanted in zip(mlflow.keras.load_model(uri)(x), model(x), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_an_example_in_a_tuple_is_left_out(project):
    model = two_inputs_model()
    x = (signals(2, 5), np.ones((2, 3), "float32"))
    uri, _ = log(project, model, x)
    assert mlflow.pyfunc.load_model(uri).input_example is None
    np.testing.assert_array_equal(mlflow.keras.load_model(uri)(x), model(x))


def test_a_version_loads_as_a_keras_model_without_warnings(logged):
    *_, model = logged
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_version(registry.get_version("speech", "champion"), {})
    x = signals(2, 7)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


def test_no_code_is_run_from_a_stored_model(project):
    signal = keras.Input((2,), name="signal")
    model = keras.Model(signal, keras.layers.Lambda(lambda x: x * 2)(signal))
    uri, _ = log(project, model, np.ones((1, 2), "float32"))
    registry.register(project, "speech", uri, "loss", 0.5, "min", "same")
    with pytest.raises(UserError, match="speech version 1 cannot be loaded: .*unsafe"):
        load_version(registry.get_version("speech", "champion"), {})


def test_a_model_of_texts_is_stored_and_answers(project):
    text = keras.Input((), dtype="string", name="text")
    words = keras.layers.StringLookup(vocabulary=["gut", "größer"])(text)
    model = keras.Model(text, keras.layers.Embedding(3, 2)(words))
    texts = tf.constant(["größer", "schlecht", "gut"])
    uri, run = log(project, model, texts[:2])
    assert "größer" in json.loads(file_of(uri, "serving_input_example.json"))["inputs"]
    assert "pyfunc" not in mlflow.get_run(run.info.run_id).data.tags
    np.testing.assert_array_equal(mlflow.keras.load_model(uri)(texts), model(texts))
    answer = mlflow.pyfunc.load_model(uri).predict(np.array(["größer", "schlecht", "gut"]))
    np.testing.assert_allclose(answer, model(texts), rtol=1e-6)


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
        expected.append(np.asarray(model(x)))
        if build is recogniser:
            registry.register(project, "speech", uri, "loss", 0.5, "min", "same")
            loaded = load_version(registry.get_version("speech", 1), {})
            assert isinstance(loaded.layers[-1], CTCOutput)
            np.testing.assert_array_equal(loaded(x), expected[-1])
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
