"""`predict`: pictures, test examples and JSON, sent to a server or read by the exported model itself."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_dl.errors import UserError
from keras_dl.pipeline import load_pipeline
from keras_dl.serving import predict
from keras_dl.serving.predict import ascii_image, read_image, show_prediction
from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.inference import Inference
from keras_dl.serving.server.metrics import Metrics
from keras_dl.serving.server.rest.app import create_app
from keras_dl.serving.server.store import ModelStore
from keras_dl.training.train import train

# Tells how much ink there is. The name of the picture's input is `image`; batches of the test split have 2 examples.
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
TWO = '{"image": [[[1, 2], [3, 4]]]}'


@pytest.fixture(autouse=True)
def nobody_serves(monkeypatch, free_port):
    """Whatever listens at the default address of this machine is none of ours."""
    monkeypatch.setattr(predict, "DEFAULT_URL", f"http://127.0.0.1:{free_port()}")


@pytest.fixture
def ink(project):
    """The settings of a project with an exported model `ink`, of no registered version."""
    (project.root / "pipelines").mkdir()
    (project.root / "pipelines" / "ink.py").write_text(PIPELINE)
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, None, None], tf.float32, name="image")])
    def read(image):
        total = tf.reduce_mean(image, axis=[1, 2])
        return {"ink": total, "text": tf.strings.as_string(total, precision=1)}

    tf.saved_model.save(module, str(project.saved_models / "ink" / "1"), signatures={"serving_default": read})
    return project


def lines(capsys):
    return capsys.readouterr().out.splitlines()


# ---------------------------------------------------------------------------- pictures


def picture(folder, ink, background, name="picture.png", mode="L"):
    """6 x 9 pixels with a bar of ink in the middle."""
    pixels = np.full((6, 9), background, np.uint8)
    pixels[2:4, 3:6] = ink
    Image.fromarray(pixels).convert(mode).save(folder / name)
    return folder / name


def test_light_on_dark_stays_and_dark_on_light_is_inverted(tmp_path):
    light = read_image(picture(tmp_path, ink=250, background=10))
    assert (light.shape, light.dtype) == ((1, 4, 9), np.float32)
    assert light[0, 0, 0] == 10 and light[0, 1, 3] == 250
    dark = read_image(picture(tmp_path, ink=5, background=245))
    np.testing.assert_array_equal(dark, light)


@pytest.mark.parametrize("mode, name", [("RGB", "a.png"), ("RGB", "a.bmp"), ("1", "a.png"), ("P", "a.gif")])
def test_colours_and_formats_are_read(tmp_path, mode, name):
    pixels = read_image(picture(tmp_path, ink=0, background=255, name=name, mode=mode))
    assert pixels[0, 0, 0] == 0 and pixels[0, 1, 3] == 255


@pytest.mark.parametrize("top", [0, 30, 64])
def test_a_picture_is_cut_to_its_ink_and_a_margin_of_an_eighth(tmp_path, top):
    pixels = np.zeros((80, 40), np.uint8)
    pixels[top : top + 16, 5:9] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    cut = read_image(tmp_path / "a.png")[0]
    assert cut.shape == (20, 40)
    np.testing.assert_array_equal(np.flatnonzero(cut.any(axis=1)), np.arange(2, 18))
    Image.fromarray(0 * pixels).save(tmp_path / "empty.png")
    assert read_image(tmp_path / "empty.png").shape == (1, 80, 40)


def test_what_is_no_picture_is_told(tmp_path):
    with pytest.raises(UserError, match=r"no picture .*nowhere\.png"):
        read_image(tmp_path / "nowhere.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match=r"text\.png is no picture that can be read"):
        read_image(tmp_path / "text.png")
    with pytest.raises(UserError, match="is no picture that can be read"):
        read_image(tmp_path)
    whole = picture(tmp_path, ink=0, background=255).read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"half\.png is no picture that can be read"):
        read_image(tmp_path / "half.png")


def test_a_picture_file_is_shown_and_read(ink, capsys):
    show_prediction("ink", ink, image=str(picture(ink.root, ink=255, background=0)))
    shown = lines(capsys)
    assert shown[:4] == ["", "   @@@", "   @@@", ""]
    assert shown[4:] == ["ink, version 1:", "  ink: 42.5", "  text: 42.5"]


def test_a_wide_picture_is_drawn_narrower():
    pixels = np.zeros((20, 250))
    pixels[:, 240:] = 9
    drawn = ascii_image(pixels).splitlines()
    assert max(map(len, drawn)) <= 100 and len(drawn) == 7 and drawn[0] == 80 * " " + "@@@@"
    assert ascii_image(np.zeros((2, 3))) == "\n"


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
        ("{", r"--input is no JSON \(.*\)\. Received: \{$"),
        ("[1]", r"--input must be an object of inputs"),
        ('{"picture": [[[1]]]}', r"the model takes image\. Received: picture"),
        ('{"image": [[[1]]], "size": 2}', r"the model takes image\. Received: image, size"),
        ("{}", r"the model takes image\. Received: $"),
        ('{"image": [[1, 2]]}', r"the model refuses these inputs: "),
        ('{"image": [[[1, 2], [3]]]}', r"the model refuses these inputs: "),
        ('{"image": "words"}', r"the model refuses these inputs: "),
    ],
)
def test_wrong_json_is_told(ink, given, message):
    with pytest.raises(UserError, match=message) as caught:
        show_prediction("ink", ink, given=given)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------------- test examples


@pytest.mark.parametrize("index", [0, 1, 2])  # the last one in a batch of its own
def test_an_example_with_its_right_answer(ink, capsys, index):
    outputs = show_prediction("ink", ink, example=index)
    assert outputs["ink"].tolist() == [index]
    assert lines(capsys)[-1] == f"  right is: {index}.0"


@pytest.mark.parametrize(
    "index, message", [(3, "the test split of ink has 3 examples. Received: --example 3"), (-1, "counts from 0")]
)
def test_an_example_out_of_range(ink, index, message):
    with pytest.raises(UserError, match=message):
        show_prediction("ink", ink, example=index)


def test_an_example_without_its_pipeline(ink):
    (ink.root / "pipelines" / "ink.py").unlink()
    with pytest.raises(UserError, match=r"no pipeline file .*ink\.py"):
        show_prediction("ink", ink, example=0)


def test_an_example_is_made_with_the_values_that_the_version_was_trained_with(ink, capsys):
    shutil.rmtree(ink.saved_models / "ink")
    assert train(load_pipeline(ink.root / "pipelines" / "ink.py"), {"scale": 100}, ink).version == 1
    assert show_prediction("ink", ink, example=2)["ink"].tolist() == [200]
    assert lines(capsys)[-1] == "  right is: 200.0"


# ---------------------------------------------------------------------------- a server or the folder


@pytest.fixture
def served(ink, running):
    """The URL of a server of version 2, which doubles the ink."""
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, None, None], tf.float32, name="image")])
    def read(image):
        total = 2 * tf.reduce_mean(image, axis=[1, 2])
        return {"ink": total, "text": tf.strings.as_string(total, precision=1)}

    folder = ink.root / "elsewhere" / "ink"
    tf.saved_model.save(module, str(folder / "2"), signatures={"serving_default": read})
    with ModelStore([ModelConfig("ink", folder)]) as store:
        assert store.polled.wait(60)
        with running(create_app(Inference(store, Metrics()))) as url:
            yield url


def test_a_server_is_asked_by_its_url(ink, served, capsys):
    outputs = show_prediction("ink", ink, given=TWO, url=served)
    assert outputs["ink"].tolist() == [5] and outputs["text"].tolist() == ["5.0"]
    assert lines(capsys)[-3:] == [f"ink, the server at {served}:", "  ink: 5.0", "  text: 5.0"]


def test_a_server_is_asked_over_grpc(ink, grpc_address, capsys):
    outputs = show_prediction("text", ink, given='{"text": ["ü"]}', url=f"grpc://{grpc_address}")
    assert outputs["upper"].tolist() == ["ü"] and outputs["length"].tolist() == [2]
    assert lines(capsys)[0] == f"text, the server at grpc://{grpc_address}:"


def test_a_server_at_the_default_address_is_found(ink, served, monkeypatch, capsys):
    monkeypatch.setattr(predict, "DEFAULT_URL", served)
    assert show_prediction("ink", ink, given=TWO)["ink"].tolist() == [5]
    assert f"the server at {served}" in capsys.readouterr().out


def test_a_server_of_other_models_is_not_asked(ink, url, monkeypatch, capsys):
    monkeypatch.setattr(predict, "DEFAULT_URL", url)
    assert show_prediction("ink", ink, given=TWO)["ink"].tolist() == [2.5]
    assert "version 1" in capsys.readouterr().out


def test_an_example_goes_to_a_server_too(ink, served, capsys):
    """The default `request` does not know the name of the input."""
    assert load_pipeline(ink.root / "pipelines" / "ink.py").request((np.ones((2, 4)),)).keys() == {""}
    assert show_prediction("ink", ink, example=1, url=served)["ink"].tolist() == [2]
    assert lines(capsys)[-1] == "  right is: 1.0"


def test_a_picture_goes_to_a_server_too(ink, served, capsys):
    outputs = show_prediction("ink", ink, image=str(picture(ink.root, ink=0, background=255)), url=served)
    assert outputs["ink"] == pytest.approx(2 * 255 * 6 / 36)


def test_the_servers_words_and_a_server_that_is_not_there(ink, served, free_port):
    with pytest.raises(UserError, match="the server refused the request: .*image"):
        show_prediction("ink", ink, given='{"picture": 1}', url=served)
    with pytest.raises(UserError, match="no server answers at"):
        show_prediction("ink", ink, given=TWO, url=f"http://127.0.0.1:{free_port()}")


def test_the_newest_version_of_the_folder_is_read(ink, served, capsys):
    (ink.root / "elsewhere" / "ink" / "2").rename(ink.saved_models / "ink" / "10")
    assert show_prediction("ink", ink, given=TWO)["ink"].tolist() == [5]
    assert "ink, version 10:" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["speech", "../ink", ""])
def test_a_model_that_is_not_there(ink, name):
    with pytest.raises(UserError, match="no model .* in .*saved_models: make it with keras-dl tune"):
        show_prediction(name, ink, given=json.dumps({"image": [[[1]]]}))
