"""Every pipeline of the repository, from its file to the answer of a server."""

import argparse
import contextlib
import dataclasses
import functools
import io
import itertools
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
from keras_dl.pipeline import Pipeline, load_pipeline, space
from keras_dl.serving import Client
from keras_dl.values import parse_values

from ..conftest import enter, start_project

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


def few_pairs(folder):
    """Lines in two languages, the second in reverse."""
    lines = [f"{first} {second}\t{second} {first}" for first in "abcdefgh" for second in ("one", "two", "three")]
    (folder / "pairs.tsv").write_text("\n".join(lines) + "\n")
    return str(folder / "pairs.tsv")


def few_opinions(folder):
    """Thirty texts of each of two labels, one a line."""
    (folder / "opinions").mkdir()
    for label in ("dull", "fine"):
        lines = "".join(f"the {thing} number {n} was {label}\n" for thing in ("film", "plot") for n in range(15))
        (folder / "opinions" / f"{label}.txt").write_text(lines)
    return str(folder / "opinions")


def few_words(folder):
    """A dictionary in which each letter has its phone."""
    words = ["".join(letters) for letters in itertools.product("abc", "de", "fgh", "ij", "klm")]
    (folder / "words.dict").write_text("\n".join(f"{word}  {' '.join(word.upper())}" for word in words))
    return str(folder / "words.dict")


# Less data than by default, where a pipeline takes other data: one file of the standard library instead of all.
DATA = {
    "python_source": lambda folder: argparse.__file__,
    "mackey_glass": short_series,
    "sentiment": few_opinions,
    "spoken_digits": few_digits,
    "translation": few_pairs,
    "letters_to_phones": few_words,
}

# What is given where no other data are, and no choice makes a training short.
GIVEN = {"number_words": ["largest=1000", "compared=none"]}

FRESH = """
import json
import sys
import tensorflow as tf

answers = {}
for name, (folder, request) in json.load(sys.stdin).items():
    signature = tf.saved_model.load(folder).signatures["serving_default"]
    (_, inputs), = [signature.structured_input_signature]
    request = {key or next(iter(inputs)): value for key, value in request.items()}
    outputs = signature(**{key: tf.constant(value, inputs[key].dtype) for key, value in request.items()})
    answers[name] = {key: tensor.numpy().tolist() for key, tensor in outputs.items()}
print(json.dumps(answers, default=lambda value: value.decode()))
assert not [name for name in sys.modules if name.partition(".")[0] == "keras_dl"]
"""


@dataclasses.dataclass
class Made:
    """A pipeline that was tuned: what was printed, its first test example, and the request made of it."""

    pipeline: Pipeline
    printed: str
    example: tuple
    request: dict


@pytest.fixture(scope="module")
def house(tmp_path_factory, empty_store):
    """The settings of one project for all pipelines."""
    settings = start_project(tmp_path_factory.mktemp("house"), empty_store)
    (settings.root / "pipelines").mkdir()
    return settings


@pytest.fixture(scope="module")
def made(house):
    """made(file): a `Made` of it; tuned at the first call, with one trial of one epoch."""

    @functools.cache
    def make(file):
        path = house.root / "pipelines" / file.name
        shutil.copy(file, path)
        pipeline = load_pipeline(path)
        pipeline.source = DATA[file.stem](house.root) if file.stem in DATA else None
        arguments = cheap_values(pipeline) + GIVEN.get(file.stem, [])
        arguments += ["--data", pipeline.source] if pipeline.source else []
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            assert main(["tune", str(path), "--trials", "1", "--epochs", "1", *arguments]) == 0
        hp = kt.HyperParameters()
        hp.values.update(parse_values(GIVEN.get(file.stem, [])))
        example = next(iter(pipeline.data(hp).test.unbatch()))
        example = keras.tree.map_structure(keras.ops.convert_to_numpy, example)
        return Made(pipeline, printed.getvalue(), example, pipeline.request(example))

    return make


@pytest.fixture(autouse=True)
def inside(house, monkeypatch):
    enter(house, monkeypatch)


def cheap_values(pipeline):
    entries = [entry for entry in space(pipeline).space if entry.name in CHEAP and hasattr(entry, "values")]
    return [f"{entry.name}={CHEAP[entry.name](entry.values)}" for entry in entries]


@contextlib.contextmanager
def serving(folder):
    """The URL of a server of all models."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "keras_dl.cli", "serve", "--embedded", "--rest-port", str(port)]
    output = folder / "serve.txt"
    with open(output, "w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 120
        while not re.search(r"^ready: http", output.read_text(), flags=re.MULTILINE):
            assert process.poll() is None and time.monotonic() < deadline, output.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_there_are_pipelines():
    assert {"digits_ctc", "python_source"} <= {file.stem for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_from_the_file_to_a_tracked_model(file, made, house):
    name, pipeline = file.stem, made(file).pipeline
    assert f"model  {name} version 1, champion" in made(file).printed
    assert [folder.name for folder in (house.saved_models / name).iterdir()] == ["1"]
    assert all(len(array) == 1 for array in made(file).request.values())

    # Tracked: a parent with the test's numbers and pictures, and a trial with the curve.
    tracker = mlflow.MlflowClient(house.tracking_uri)
    experiment = tracker.get_experiment_by_name(name).experiment_id
    trial, parent = sorted(tracker.search_runs([experiment]), key=lambda run: run.data.tags["kind"], reverse=True)
    assert (trial.info.status, parent.info.status) == ("FINISHED", "FINISHED")
    assert pipeline.objective in trial.data.metrics
    assert np.isfinite(parent.data.metrics[f"test_{pipeline.goal[0]}"])
    artifacts = {artifact.path for artifact in tracker.list_artifacts(parent.info.run_id)}
    assert {"search.png", "learning_curves.png", "pipeline", "environment.json", "values.json"} < artifacts


def test_from_the_models_to_answers(made, house, capsys):
    """A process without this package and a server answer every pipeline's own request, and alike."""
    requests = {
        file.stem: [
            str(house.saved_models / file.stem / "1"),
            {key: np.asarray(array).tolist() for key, array in made(file).request.items()},
        ]
        for file in FILES
    }
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    answer = subprocess.run(
        [sys.executable, "-c", FRESH],
        input=json.dumps(requests), env=environment, cwd=house.root, capture_output=True, text=True,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    answers = json.loads(answer.stdout)

    with serving(house.root) as url:
        for file in FILES:
            name, expected = file.stem, answers[file.stem]
            assert expected and all(len(rows) == 1 for rows in expected.values())
            served = Client(url).predict(name, made(file).request)
            assert served.keys() == expected.keys()
            for key, rows in expected.items():
                if served[key].dtype == object:  # texts; of a row without any, nothing else would tell
                    assert served[key].tolist() == rows
                else:
                    np.testing.assert_allclose(served[key], rows, rtol=1e-4, atol=1e-5)
            capsys.readouterr()
            assert main(["predict", name, "--example", "0", "--url", url]) == 0
            shown = capsys.readouterr().out
            assert f"{name}, the server at {url}:\n" in shown
            assert all(f"\n  {key}: " in shown for key in expected)
            right = made(file).pipeline.answer(made(file).example)
            assert right is None or shown.endswith(f"\n  right is: {right}\n")
