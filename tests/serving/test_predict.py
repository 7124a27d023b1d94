"""`predict`: images, recordings, test examples and JSON, sent to a server or to an exported model."""

import io
import json
import re
import shutil
import sys
from functools import partial

import mlflow
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy.io import wavfile

from keras_dl.errors import UserError
from keras_dl.pipeline import load_pipeline
from keras_dl.release.evaluate import example_of
from keras_dl.serving import predict
from keras_dl.serving.predict import ascii_image, read_image, read_recording, show_prediction, table
from keras_dl.tracking.runs import connect

from ..served import serving

# Returns the mean of an image. Batches of the test split have 2 examples.
PIPELINE = '''"""Ink."""

import keras
import numpy as np
import tensorflow as tf

from keras_dl import Pipeline
from keras_dl.data import Splits, batches


class Ink(Pipeline):
    epochs = 1

    def data(self, hp):
        scale = hp.Choice("scale", [1, 100], default=1)
        images = np.arange(3, dtype="float32")[:, None, None] * np.ones((3, 2, 4), "float32") * scale
        examples = tf.data.Dataset.from_tensor_slices((images, images[:, 0, :1]))
        return batches(Splits(examples, examples, examples), batch_size=3, evaluation_batch_size=2)

    def build(self, hp):
        image = keras.Input((None, None), name="image")
        mean = keras.ops.mean(image, axis=(1, 2))[:, None]
        model = keras.Model(image, keras.layers.Dense(1, kernel_initializer="ones", name="ink")(mean))
        model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=False)
        return model

    def signatures(self, model):
        def read(image):
            ink = model(image, training=False)[:, 0]
            return {"ink": ink, "text": tf.strings.as_string(ink, precision=1)}

        return {"serving_default": (read, [tf.TensorSpec([None, None, None], tf.float32, name="image")])}

    def answer(self, example):
        return f"{example[1][0]:.1f}"
'''
IMAGE = r"float32 of shape \(None, None, None\)"
TWO = '{"image": [[[1, 2], [3, 4]]]}'


@pytest.fixture(autouse=True)
def no_default_server(monkeypatch, free_port):
    """Replaces the default address, because a server on this machine may listen on it."""
    monkeypatch.setattr(predict, "DEFAULT_URL", f"http://127.0.0.1:{free_port()}")


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """The folder of version 1, which returns the mean of an image, and of version 2, which doubles it."""
    folder = tmp_path_factory.mktemp("ink")
    for version in (1, 2):

        @tf.function(input_signature=[tf.TensorSpec([None, None, None], tf.float32, name="image")])
        def read(image, scale=version):
            mean = scale * tf.reduce_mean(image, axis=[1, 2])
            return {"ink": mean, "text": tf.strings.as_string(mean, precision=1)}

        tf.saved_model.save(tf.Module(), str(folder / str(version)), signatures={"serving_default": read})
    return folder


@pytest.fixture
def ink(project, exports):
    """The settings of a project with the exported model `ink`, version 1, which is not registered."""
    (project.root / "pipelines").mkdir()
    (project.root / "pipelines" / "ink.py").write_text(PIPELINE)
    shutil.copytree(exports / "1", project.saved_models / "ink" / "1")
    return project


def lines(capsys):
    return capsys.readouterr().out.splitlines()


# ---------------------------------------------------------------------------- images


def picture(folder, ink, background, name="picture.png", mode="L"):
    """Writes an image of 6 x 9 pixels with a bar of ink in the middle."""
    pixels = np.full((6, 9), background, np.uint8)
    pixels[2:4, 3:6] = ink
    Image.fromarray(pixels).convert(mode).save(folder / name)
    return folder / name


def test_images_with_a_light_background_are_inverted(tmp_path):
    light = read_image(picture(tmp_path, ink=250, background=10))
    assert (light.shape, light.dtype) == ((1, 4, 9), np.float32)
    assert light[0, 0, 0] == 10 and light[0, 1, 3] == 250
    dark = read_image(picture(tmp_path, ink=5, background=245))
    np.testing.assert_array_equal(dark, light)


@pytest.mark.parametrize("mode, name", [("RGB", "a.png"), ("RGB", "a.bmp"), ("1", "a.png"), ("P", "a.gif")])
def test_colors_and_formats_are_read(tmp_path, mode, name):
    pixels = read_image(picture(tmp_path, ink=0, background=255, name=name, mode=mode))
    assert pixels[0, 0, 0] == 0 and pixels[0, 1, 3] == 255


@pytest.mark.parametrize("top", [0, 30, 64])
def test_an_image_is_cropped_to_its_ink_with_a_margin_of_an_eighth(tmp_path, top):
    pixels = np.zeros((80, 40), np.uint8)
    pixels[top : top + 16, 5:9] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    cropped = read_image(tmp_path / "a.png")[0]
    assert cropped.shape == (20, 40)
    np.testing.assert_array_equal(np.flatnonzero(cropped.any(axis=1)), np.arange(2, 18))
    Image.fromarray(0 * pixels).save(tmp_path / "empty.png")
    assert read_image(tmp_path / "empty.png").shape == (1, 80, 40)


def test_files_that_are_not_images(tmp_path):
    with pytest.raises(UserError, match=r"no such image: .*nowhere\.png"):
        read_image(tmp_path / "nowhere.png")
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(UserError, match=r"text\.png is not a readable image"):
        read_image(tmp_path / "text.png")
    with pytest.raises(UserError, match="is not a readable image"):
        read_image(tmp_path)
    whole = picture(tmp_path, ink=0, background=255).read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"half\.png is not a readable image"):
        read_image(tmp_path / "half.png")


def test_an_image_is_printed_and_sent(ink, capsys):
    show_prediction("ink", ink, image=str(picture(ink.root, ink=255, background=0)))
    shown = lines(capsys)
    assert shown[:4] == ["", "   @@@", "   @@@", ""]
    assert shown[4:] == ["ink, version 1:", "  ink: 42.5", "  text: 42.5"]


def test_a_wide_image_is_drawn_smaller():
    pixels = np.zeros((20, 250))
    pixels[:, 240:] = 9
    drawn = ascii_image(pixels).splitlines()
    assert max(map(len, drawn)) <= 100 and len(drawn) == 7 and drawn[0] == 80 * " " + "@@@@"
    assert ascii_image(np.zeros((2, 3))) == "\n"


# ---------------------------------------------------------------------------- recordings

TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(4000) / 8000)


@pytest.fixture
def file(tmp_path):
    def write(samples, rate=8000, name="tone.wav"):
        wavfile.write(tmp_path / name, rate, (np.asarray(samples) * 2**15).astype(np.int16))
        return str(tmp_path / name)

    return write


def test_a_recording_becomes_inputs(file, capsys):
    inputs = read_recording(file(TONE))
    assert set(inputs) == {"waveform", "length"}
    assert inputs["waveform"].dtype == np.float32 and inputs["waveform"].shape == (1, 4000)
    assert inputs["length"].dtype == np.int32 and inputs["length"].tolist() == [4000]
    np.testing.assert_allclose(inputs["waveform"][0], TONE, atol=1e-4)
    assert capsys.readouterr().err == ""


def test_resampling_and_mixing_are_reported(file, capsys):
    path = file(np.stack([TONE, TONE, TONE], axis=1), 16_000)
    inputs = read_recording(path)
    assert inputs["waveform"].shape == (1, 2000)
    assert capsys.readouterr().err == f"{path} has 16000 Hz, resampled to 8000 Hz; 3 channels, mixed down to one\n"


def test_standard_input(file, monkeypatch):
    with open(file(TONE), "rb") as content:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.read())))
    assert read_recording("-")["length"].tolist() == [4000]
    with pytest.raises(UserError, match="standard input is empty: expected a WAV file"):
        read_recording("-")


def test_unreadable_recordings_are_reported_in_one_line(file, tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "song.wav").write_bytes(b"ID3 a song")
    cases = {
        str(tmp_path / "none.wav"): "cannot read the recording .*none.wav: No such file or directory",
        str(tmp_path): "cannot read the recording .*: Is a directory",
        str(tmp_path / "empty.wav"): "empty.wav is empty: expected a WAV file",
        str(tmp_path / "song.wav"): "song.wav is not a readable WAV file",
        file(TONE[:799], name="click.wav"): "click.wav is too short: expected at least 0.1 seconds. Received: 0.0999",
        file(TONE[:100], name="click2.wav"): "click2.wav is too short: expected at least 0.1 seconds. Received: 0.0125",
    }
    for path, message in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            read_recording(path)
        assert "\n" not in str(caught.value)
    assert read_recording(file(TONE[:800], name="just.wav"))["length"].tolist() == [800]


def test_a_table():
    columns = {
        "confidence": np.array([1.0, 0.504], np.float32),
        "digit": np.array([b"7", b"0"]),
        "end": np.array([1.28, 12.0]),
        "number": np.array([3, 4]),
        "start": np.array([0.125, 10.5]),
    }
    assert table(columns).splitlines() == [
        "digit     start       end  confidence    number",
        "7        0.12 s    1.28 s        100%         3",
        "0       10.50 s   12.00 s         50%         4",
    ]


def test_an_empty_table():
    columns = {"start": np.zeros(0), "digit": np.zeros(0, object)}
    assert re.fullmatch(r"digit +start", table(columns))


# ---------------------------------------------------------------------------- JSON


def test_json_inputs(ink, capsys):
    outputs = show_prediction("ink", ink, given=TWO)
    assert outputs["ink"].tolist() == [2.5] and outputs["text"].tolist() == ["2.5"]
    assert lines(capsys)[-1] == "  text: 2.5"


def test_several_examples_at_once(ink, capsys):
    show_prediction("ink", ink, given='{"image": [[[1, 1]], [[2, 2]]]}')
    assert lines(capsys)[-2:] == ["  ink: [1. 2.]", "  text: ['1.0' '2.0']"]


@pytest.mark.parametrize(
    "given, message",
    [
        ("{", r"--input is not valid JSON \(.*\)\. Received: \{$"),
        ("[1]", rf"input image: expected {IMAGE}. Received: shape \(1,\): nest it 2 levels deeper"),
        ("[" * 100_000, r"--input is not valid JSON \(maximum recursion depth"),
        (
            '{"picture": [[[1]]]}',
            rf'^ink: expected "inputs" to be an object with the keys image \({IMAGE}\)\. Received: .*picture$',
        ),
        ("{}", r"Received: an empty object$"),
        (
            '{"image": [[1, 2]]}',
            rf"^ink: input image: expected {IMAGE}\. Received: shape \(1, 2\): nest it 1 level deeper$",
        ),
        ('{"image": [[[[1]]]]}', r"Received: shape \(1, 1, 1, 1\): remove 1 level of nesting$"),
        ('{"image": [[[1, 2], [3]]]}', r"Received: a list of 1 item, not 2 as before it, at inputs\.image\[0\]\[1\]$"),
        ('{"image": "words"}', rf'^ink: input image: expected {IMAGE}\. Received: "words" at inputs\.image$'),
        ('{"image": [[[1, null]]]}', r"Received: null at inputs\.image\[0\]\[0\]\[1\]$"),
    ],
)
def test_wrong_json(ink, given, message):
    with pytest.raises(UserError, match=message) as caught:
        show_prediction("ink", ink, given=given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given, message",
    [
        ('{"picture": [[[1]]]}', rf"an object with the keys image \({IMAGE}\)\. Received: .*picture$"),
        ('{"image": [[1, 2]]}', rf"input image: expected {IMAGE}\. Received: shape \(1, 2\): nest it 1 level deeper$"),
        ('{"image": [[[1, 2], [3]]]}', rf"input image: expected {IMAGE}\. Received: lists of different lengths"),
        ('{"image": "words"}', rf"input image: expected {IMAGE}\. Received: strings of shape \(\)$"),
        ('{"image": [[[1, null]]]}', rf"input image: expected {IMAGE}\. Received: values that are not all numbers$"),
    ],
)
def test_wrong_json_for_a_server(ink, served, given, message):
    with pytest.raises(UserError, match=message):
        show_prediction("ink", ink, given=given, url=served)


def test_an_unsafe_model_is_not_run(ink, model_folders):
    shutil.copytree(model_folders["reader"], ink.saved_models / "reader")
    with pytest.raises(UserError, match=r"^reader, version 1 is unsafe, and is not run: .*ReadFile reads files"):
        show_prediction("reader", ink, given='{"path": "/etc/hostname"}')


# ---------------------------------------------------------------------------- test examples


@pytest.mark.parametrize("index", [0, 1, 2])  # the last one is in a second batch
def test_an_example_with_its_expected_answer(ink, capsys, index):
    outputs = show_prediction("ink", ink, example=partial(example_of, "ink", ink, index))
    assert outputs["ink"].tolist() == [index]
    assert lines(capsys)[-1] == f"  expected: {index}.0"


@pytest.mark.parametrize(
    "index, message",
    [(3, "the test split of ink has 3 examples. Received: --example 3"), (-1, "expected --example >= 0. Received: -1")],
)
def test_an_example_out_of_range(ink, index, message):
    with pytest.raises(UserError, match=message):
        show_prediction("ink", ink, example=partial(example_of, "ink", ink, index))


def test_an_example_without_its_pipeline(ink):
    (ink.root / "pipelines" / "ink.py").unlink()
    with pytest.raises(UserError, match=r"no pipeline file .*ink\.py"):
        show_prediction("ink", ink, example=partial(example_of, "ink", ink, 0))


def test_an_example_is_loaded_with_the_hyperparameters_of_the_version(ink, capsys):
    connect(ink)
    with mlflow.start_run() as run:
        mlflow.log_dict({"scale": 100}, "values.json")
    client = mlflow.MlflowClient()
    client.create_registered_model("ink")
    assert int(client.create_model_version("ink", run.info.artifact_uri, run.info.run_id).version) == 1
    capsys.readouterr()
    assert show_prediction("ink", ink, example=partial(example_of, "ink", ink, 2))["ink"].tolist() == [200]
    assert lines(capsys)[-1] == "  expected: 200.0"


# ---------------------------------------------------------------------------- servers and exports


@pytest.fixture(scope="module")
def served(exports):
    """The URL of a server of version 2."""
    with serving("ink", exports) as url:
        yield url


def test_a_server_is_selected_by_its_url(ink, served, capsys):
    outputs = show_prediction("ink", ink, given=TWO, url=served)
    assert outputs["ink"].tolist() == [5] and outputs["text"].tolist() == ["5.0"]
    assert lines(capsys)[-3:] == [f"ink, the server at {served}:", "  ink: 5.0", "  text: 5.0"]


def test_a_grpc_server_is_selected_by_its_url(ink, grpc_address, capsys):
    outputs = show_prediction("text", ink, given='{"text": ["ü"]}', url=f"grpc://{grpc_address}")
    assert outputs["upper"].tolist() == ["ü"] and outputs["length"].tolist() == [2]
    assert lines(capsys)[0] == f"text, the server at grpc://{grpc_address}:"


def test_a_server_at_the_default_address_is_used(ink, served, monkeypatch, capsys):
    monkeypatch.setattr(predict, "DEFAULT_URL", served)
    assert show_prediction("ink", ink, given=TWO)["ink"].tolist() == [5]
    assert f"the server at {served}" in capsys.readouterr().out


def test_a_server_of_other_models_is_not_used(ink, url, monkeypatch, capsys):
    monkeypatch.setattr(predict, "DEFAULT_URL", url)
    assert show_prediction("ink", ink, given=TWO)["ink"].tolist() == [2.5]
    assert "version 1" in capsys.readouterr().out


def test_an_example_is_sent_to_a_server(ink, served, capsys):
    """The default `request` does not use the name of the input."""
    assert load_pipeline(ink.root / "pipelines" / "ink.py").request((np.ones((2, 4)),)).keys() == {""}
    assert show_prediction("ink", ink, example=partial(example_of, "ink", ink, 1), url=served)["ink"].tolist() == [2]
    assert lines(capsys)[-1] == "  expected: 1.0"


def test_an_image_is_sent_to_a_server(ink, served, capsys):
    outputs = show_prediction("ink", ink, image=str(picture(ink.root, ink=0, background=255)), url=served)
    assert outputs["ink"] == pytest.approx(2 * 255 * 6 / 36)


def test_errors_of_a_server_and_no_server(ink, served, free_port):
    with pytest.raises(UserError, match="the server refused the request: .*image"):
        show_prediction("ink", ink, given='{"picture": 1}', url=served)
    with pytest.raises(UserError, match="no server answers at"):
        show_prediction("ink", ink, given=TWO, url=f"http://127.0.0.1:{free_port()}")


def test_the_newest_export_is_used(ink, exports, capsys):
    shutil.copytree(exports / "2", ink.saved_models / "ink" / "10")
    assert show_prediction("ink", ink, given=TWO)["ink"].tolist() == [5]
    assert "ink, version 10:" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["speech", "../ink", ""])
def test_a_missing_model(ink, name):
    with pytest.raises(UserError, match="no model .* in .*saved_models: train it with keras-dl tune"):
        show_prediction(name, ink, given=json.dumps({"image": [[[1]]]}))
