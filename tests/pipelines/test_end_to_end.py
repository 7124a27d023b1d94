"""Every pipeline of the repository, from its file to the answer of a server."""

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import keras_tuner as kt
import mlflow
import numpy as np
import pytest
from scipy.io import wavfile

from keras_dl.cli import main
from keras_dl.pipeline import load_pipeline, space
from keras_dl.serving import client

FILES = sorted((Path(__file__).parents[2] / "pipelines").glob("*.py"))

# What makes a training short, of the values that a space offers.
CHEAP = {"units": min, "filters": min, "batch_size": max}


def short_series(folder):
    np.save(folder / "series.npy", np.sin(np.arange(600) / 5) + np.random.default_rng(0).normal(0, 0.1, 600))
    return str(folder / "series.npy")


def few_digits(folder):
    """Seven clips of each digit by one speaker; a tone each."""
    (folder / "clips").mkdir()
    for digit in range(10):
        tone = 0.3 * np.sin(2 * np.pi * (300 + 100 * digit) / 8000 * np.arange(1000))
        for index in range(7):
            wavfile.write(folder / "clips" / f"{digit}_ann_{index}.wav", 8000, tone.astype("float32"))
    return str(folder / "clips")


# Less data than by default, where a pipeline takes other data: one file of the standard library instead of all.
DATA = {
    "python_source": lambda folder: argparse.__file__,
    "mackey_glass": short_series,
    "spoken_digits": few_digits,
}

FRESH = """
import json
import sys
import tensorflow as tf

folder, request = sys.argv[1], json.load(sys.stdin)
signature = tf.saved_model.load(folder).signatures["serving_default"]
(_, inputs), = [signature.structured_input_signature]
request = {name or next(iter(inputs)): value for name, value in request.items()}
outputs = signature(**{name: tf.constant(value, inputs[name].dtype) for name, value in request.items()})
readable = {name: tensor.numpy().tolist() for name, tensor in outputs.items()}
print(json.dumps(readable, default=lambda value: value.decode()))
assert not [name for name in sys.modules if name.partition(".")[0] == "keras_dl"]
"""


@pytest.fixture
def serving(project):
    """serving(name): starts a server of the exported model; gives a function that waits for it and gives its URL."""
    started = []

    def start(name):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", "keras_dl.cli", "serve", name, "--embedded", "--rest-port", str(port)]
        output = project.root / "serve.txt"
        with open(output, "w") as file:
            process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
        started.append(process)

        def wait():
            deadline = time.monotonic() + 120
            while not re.search(r"^ready: http", output.read_text(), flags=re.MULTILINE):
                assert process.poll() is None and time.monotonic() < deadline, output.read_text()
                time.sleep(0.1)
            return f"http://127.0.0.1:{port}"

        return wait

    yield start
    for process in started:
        process.terminate()
        assert process.wait(60) == 0


def cheap_values(pipeline):
    entries = [entry for entry in space(pipeline).space if entry.name in CHEAP and hasattr(entry, "values")]
    return [f"{entry.name}={CHEAP[entry.name](entry.values)}" for entry in entries]


def test_there_are_pipelines():
    assert {"digits_ctc", "python_source"} <= {file.stem for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_from_the_file_to_an_answer(file, project, serving, capsys):
    name, path = file.stem, project.root / "pipelines" / file.name
    path.parent.mkdir()
    shutil.copy(file, path)
    pipeline = load_pipeline(path)
    pipeline.source = DATA[name](project.root) if name in DATA else None
    arguments = cheap_values(pipeline) + (["--data", pipeline.source] if pipeline.source else [])
    assert main(["tune", str(path), "--trials", "1", "--epochs", "1", *arguments]) == 0
    assert f"model  {name} version 1, champion" in capsys.readouterr().out
    assert [folder.name for folder in (project.saved_models / name).iterdir()] == ["1"]

    # Tracked: a parent with the test's numbers and pictures, and a trial with the curve.
    tracker = mlflow.MlflowClient(project.tracking_uri)
    experiment = tracker.get_experiment_by_name(name).experiment_id
    trial, parent = sorted(tracker.search_runs([experiment]), key=lambda run: run.data.tags["kind"], reverse=True)
    assert (trial.info.status, parent.info.status) == ("FINISHED", "FINISHED")
    assert pipeline.objective in trial.data.metrics
    assert np.isfinite(parent.data.metrics[f"test_{pipeline.goal[0]}"])
    artifacts = {artifact.path for artifact in tracker.list_artifacts(parent.info.run_id)}
    assert {"search.png", "learning_curves.png", "pipeline", "environment.json", "values.json"} < artifacts

    server = serving(name)

    # Exported: a process without this package answers the pipeline's own request.
    example = next(iter(pipeline.data(kt.HyperParameters()).test.unbatch()))
    example = keras.tree.map_structure(keras.ops.convert_to_numpy, example)
    request = pipeline.request(example)
    assert all(len(array) == 1 for array in request.values())
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", FRESH, str(project.saved_models / name / "1")]
    body = json.dumps({key: np.asarray(array).tolist() for key, array in request.items()})
    answer = subprocess.run(command, input=body, env=environment, cwd=project.root, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    expected = json.loads(answer.stdout)
    assert expected and all(len(rows) == 1 for rows in expected.values())

    # Served: the same request over HTTP, and what `predict` shows of the first test example.
    url = server()
    served = client.predict(url, name, request)
    assert served.keys() == expected.keys()
    for key, rows in expected.items():
        if np.asarray(rows).dtype.kind == "U":
            assert served[key] == rows
        else:
            np.testing.assert_allclose(served[key], rows, rtol=1e-4, atol=1e-5)
    capsys.readouterr()
    assert main(["predict", name, "--example", "0", "--url", url]) == 0
    shown = capsys.readouterr().out
    assert f"{name}, the server at {url}:\n" in shown
    for key in expected:
        assert f"\n  {key}: " in shown
    right = pipeline.answer(example)
    assert right is None or shown.endswith(f"\n  right is: {right}\n")
