"""The page in a browser: all kinds of inputs and outputs, and no interpretation of text as HTML."""

import io
import json
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy.io import wavfile

from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.inference import Inference
from keras_dl.serving.server.metrics import Metrics
from keras_dl.serving.server.rest.app import create_app
from keras_dl.serving.server.store import ModelStore

from .handwriting import write

STRANGE = "<b>bold</b> & 100%"
EXAMPLES = {
    "pad": {"image": np.eye(10, 30)[None].tolist()},
    "speech": {"waveform": [[0.0, 0.5, -0.5, 0.0] * 1000], "length": [4000]},
    "translator": {"text": ["ab cd"]},
    "series": {"series": [[[0.0, 1.0], [1.0, 2.0], [2.0, 1.5]]]},
    STRANGE: {"text": ["<img src=x onerror=alert(1)>"]},
}


def spec(shape, dtype, name):
    return tf.TensorSpec(shape, dtype, name=name)


def translate(text):
    """All kinds of outputs for text: the text in capitals, with an identity alignment."""
    symbols = tf.strings.unicode_split(text, "UTF-8")
    size = symbols.bounding_shape(axis=1)
    words = tf.strings.split(text).to_tensor("")
    return {
        "text": tf.strings.upper(text),
        "score": tf.fill([tf.shape(text)[0]], 0.25),
        "alternatives": tf.stack([tf.strings.upper(text), tf.strings.lower(text)], axis=1),
        "alternative_scores": tf.fill([tf.shape(text)[0], 2], -1.5),
        "alignment": tf.linalg.diag(tf.sequence_mask(symbols.row_lengths(), size, tf.float32)),
        "words": words,
        "weights": tf.cast(tf.strings.length(words), tf.float32),
    }


def recognize(waveform, length):
    row = [tf.shape(waveform)[0], 1]
    columns = {"start": [[0.1, 0.3, -1]], "end": [[0.2, 0.4, -1]], "confidence": [[0.98, 0.5, 0]]}
    words = {name: tf.tile(tf.constant(values), row) for name, values in columns.items()}
    return {"text": tf.fill(row[:1], "40"), "digit": tf.tile(tf.constant([["4", "0", ""]]), row), **words}


MODELS = {
    "pad": {
        "serving_default": (
            lambda image: {"text": tf.fill([tf.shape(image)[0]], tf.strings.format("{}", tf.shape(image)))},
            [spec([None, None, None], tf.float32, "image")],
        )
    },
    "speech": {
        "serving_default": (recognize, [spec([None, None], tf.float32, "waveform"), spec([None], tf.int32, "length")])
    },
    "translator": {"serving_default": (translate, [spec([None], tf.string, "text")])},
    "series": {
        "serving_default": (lambda series: {"next": series * 2}, [spec([None, None, 2], tf.float32, "series")]),
        "forecast": (
            lambda context, steps: {"forecast": tf.repeat(context[:, -1:], steps, axis=1)},
            [spec([None, None, 2], tf.float32, "context"), spec([], tf.int32, "steps")],
        ),
    },
    STRANGE: {"serving_default": (lambda text: {"label": text}, [spec([None], tf.string, "text")])},
}


def save(folder, signatures, example):
    module = tf.Module()
    module.functions = {
        name: tf.function(function, input_signature=inputs, autograph=False)
        for name, (function, inputs) in signatures.items()
    }
    tf.saved_model.save(module, str(folder), signatures=dict(module.functions))
    (folder / "assets.extra").mkdir()
    (folder / "assets.extra" / "manifest.json").write_text(json.dumps({"format": 1, "request": example}))


@pytest.fixture(scope="module")
def served(tmp_path_factory, running, model_folders):
    """The URL of a server of the models, and the folder of the model series."""
    root = tmp_path_factory.mktemp("page")
    configs = [ModelConfig("half_plus_two", model_folders["half_plus_two"])]
    for index, (name, signatures) in enumerate(MODELS.items()):
        save(root / str(index) / "1", signatures, EXAMPLES[name])
        configs.append(ModelConfig(name, root / str(index)))
    with ModelStore(configs, poll_seconds=0.1) as store:
        assert store.polled.wait(120)
        inference = Inference(store, Metrics())
        with running(create_app(inference)) as url:
            yield url, root / "3"
        inference.close(10)


@pytest.fixture
def visit(browser, served):
    """visit(name): the page of a model; no script may fail, and no other host may be contacted."""
    errors = []
    page = browser.new_page(viewport={"width": 1000, "height": 900})
    page.set_default_timeout(60_000)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: errors.append(request.url) if not request.url.startswith(served[0]) else None)

    def go(name):
        page.goto(f"{served[0]}/")
        page.get_by_role("link", name=name, exact=True).click()
        page.get_by_role("heading", name=name, exact=True).wait_for()
        return page

    yield go
    page.close()
    assert [error for error in errors if "status of 400" not in error] == []


def ask(page):
    """Presses the button and waits for the answer; returns the request that was sent."""
    with page.expect_response("**/v1/models/**") as response:
        page.get_by_role("button", name="Run", exact=True).click()
    page.locator("#latency").get_by_text(" ms").wait_for()
    return response.value.request.post_data_json


def test_the_form_starts_with_the_example_request(visit):
    for name in ("pad", "speech", "translator", "series"):
        page = visit(name)
        assert ask(page) == {"inputs": EXAMPLES[name]}
        assert page.locator("#answer .refused").count() == 0


def test_strokes_are_sent_with_the_height_of_the_example(visit):
    page = visit("pad")
    page.get_by_role("button", name="Clear").click()
    assert not np.any(ask(page)["inputs"]["image"])
    write(page, "107", height=120)
    (large,) = ask(page)["inputs"]["image"]
    assert len(large) == 10 and len(large[0]) > 20
    assert 0.9 <= np.max(large) <= 1  # ink as in the example, whose maximum is 1
    assert np.flatnonzero(np.max(large, axis=1) > 0.3).tolist() == list(range(1, 9))  # a margin of an eighth
    assert page.locator("#answer output").inner_text() == f"[1 10 {len(large[0])}]"
    page.get_by_role("button", name="Undo").click()
    assert len(ask(page)["inputs"]["image"][0][0]) < len(large[0])

    page.get_by_role("button", name="Clear").click()
    write(page, "107", height=60)  # the size of the writing and the thickness of the pen do not matter
    (small,) = ask(page)["inputs"]["image"]
    assert abs(len(small[0]) - len(large[0])) <= 1
    assert np.mean(small) == pytest.approx(np.mean(large), rel=0.15)


def test_a_picture_is_cropped_to_its_ink_like_keras_dl_predict(visit, tmp_path):
    from keras_dl.serving.predict import read_image

    pixels = np.full((200, 400), 255, np.uint8)
    pixels[60:140, 50:70] = 0
    pixels[90:110, 150:250] = 90
    Image.fromarray(pixels).save(tmp_path / "ink.png")
    page = visit("pad")
    page.locator("input[type=file]").set_input_files(tmp_path / "ink.png")
    page.locator("canvas.seen[width='40']").wait_for()  # 80 rows of ink and 20 of margin become 10
    (sent,) = np.array(ask(page)["inputs"]["image"])
    (right,) = tf.image.resize(read_image(tmp_path / "ink.png")[..., None], [10, sent.shape[1]], "area")[..., 0] / 255
    np.testing.assert_allclose(sent, right, atol=0.01)


def test_a_recording_is_resampled_to_the_rate_of_the_model(visit, tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 440 / 16000 * np.arange(8000))
    wavfile.write(tmp_path / "tone.wav", 16000, np.stack([tone, np.zeros(8000)], axis=1).astype(np.float32))
    page = visit("speech")
    page.locator("input[type=file]").set_input_files(tmp_path / "tone.wav")
    page.get_by_text("0.50 s, 4000 samples").wait_for()
    inputs = ask(page)["inputs"]
    assert inputs["length"] == [4000]
    (sent,) = inputs["waveform"]
    np.testing.assert_allclose(sent[200:-200], (tone / 2)[::2][200:-200], atol=0.02)

    assert page.locator("#answer output").inner_text() == "40"
    cells = page.locator("#answer table td").all_inner_texts()
    assert cells == ["4", "0.10 s", "0.20 s", "98%", "0", "0.30 s", "0.40 s", "50%"]
    assert page.locator("#answer .mark").all_inner_texts() == ["4", "0"]
    page.locator("input[type=file]").set_input_files({"name": "x.wav", "mimeType": "audio/wav", "buffer": b"no sound"})
    page.get_by_text("the browser cannot read this file").wait_for()


def test_answers_to_text(visit):
    page = visit("translator")
    page.locator("textarea").fill("ab cd\nefg\n")
    assert ask(page) == {"inputs": {"text": ["ab cd", "efg"]}}
    first, second = page.locator("article").all()
    assert first.locator("output").inner_text() == "AB CD" and "score 0.25" in first.inner_text()
    assert second.locator("output").inner_text() == "EFG"
    assert first.locator("li").all_inner_texts() == ["AB CD -1.5", "ab cd -1.5"]
    assert first.locator(".word").all_inner_texts() == ["ab", "cd"]
    assert second.locator(".word").all_inner_texts() == ["efg"]
    axes = [second.locator(f".alignment th[scope={axis}]").all_inner_texts() for axis in ("row", "col")]
    assert axes == [["E", "F", "G"], ["e", "f", "g"]]
    weights = second.locator(".alignment td[title]").evaluate_all("all => all.map(x => x.style.cssText.slice(-2, -1))")
    assert weights == ["1", "0", "0", "0", "1", "0", "0", "0", "1"]

    page.get_by_label("each line is a row").uncheck()
    assert ask(page) == {"inputs": {"text": ["ab cd\nefg\n"]}}


def test_series_are_plotted_and_another_signature_is_called(visit):
    page = visit("series")
    ask(page)
    assert page.locator("#answer polyline.given").count() == page.locator("#answer polyline.answer").count() == 2
    page.locator("#signature").select_option("forecast")
    page.get_by_label("steps").fill("5")
    sent = ask(page)
    assert sent == {"signature_name": "forecast", "inputs": {"context": EXAMPLES["series"]["series"], "steps": 5}}
    points = page.locator("#answer polyline.answer").first.get_attribute("points").split()
    assert len(points) == 5


def test_json_is_sent_unchanged_and_errors_of_the_server_are_shown(visit):
    page = visit("series")
    page.get_by_label("as JSON", exact=True).check()
    area = page.get_by_label("the request as JSON")
    assert json.loads(area.input_value()) == {"inputs": EXAMPLES["series"]}
    area.fill('{"inputs": {"series": [["x"]]}}')
    ask(page)
    assert re.fullmatch("400 .*x.* is not of expected type: float", page.locator(".refused").inner_text(), re.DOTALL)
    area.fill('{"instances": [[[1, 2]]]}')
    ask(page)
    assert page.locator(".refused").count() == 0
    assert page.locator("#answer pre").inner_text() == "[2, 4]"
    area.fill("nothing")
    page.get_by_label("as JSON", exact=True).click()
    assert page.get_by_label("as JSON", exact=True).is_checked() and area.input_value() == "nothing"
    area.fill('{"inputs": {"series": [[[7, 8]]]}}')
    page.get_by_label("as JSON", exact=True).uncheck()
    assert ask(page) == {"inputs": {"series": [[[7, 8]]]}}


def test_rows_and_examples_are_sent_as_json(visit):
    page = visit("translator")
    page.get_by_label("as JSON", exact=True).check()
    page.get_by_label("the request as JSON").fill('{"instances": ["ab", "cd"]}')
    ask(page)
    assert page.locator("#answer output").all_inner_texts() == ["AB", "CD"]
    page = visit("half_plus_two")
    page.locator("#signature").select_option("classify_x_to_y")
    assert page.get_by_label("as JSON", exact=True).is_disabled()
    page.get_by_label("the request as JSON").fill(
        '{"signature_name": "classify_x_to_y", "examples": [{"x": 2.0}, {"x": 20.0}]}'
    )
    ask(page)
    assert page.locator("article").all_inner_texts() == ['results\n["", 3]', 'results\n["", 12]']


def test_the_shell_command_sends_the_same_request(visit, served):
    page = visit("translator")
    page.locator("textarea").fill("it's")
    ask(page)
    page.get_by_text("Run from a terminal").click()
    command = page.locator("#curl").inner_text()
    assert command == f"""curl -d '{{"inputs":{{"text":["it'\\''s"]}}}}' '{served[0]}/v1/models/translator:predict'"""


def test_names_and_text_are_not_interpreted_as_html(visit):
    page = visit(STRANGE)
    assert ask(page) == {"inputs": EXAMPLES[STRANGE]}
    assert page.locator("#answer output").inner_text() == EXAMPLES[STRANGE]["text"][0]
    assert page.locator("h2").inner_text() == page.title() == STRANGE
    assert page.locator("h2 b, nav b, #answer img").count() == 0


def test_versions_are_updated_and_typed_text_is_kept(visit, served):
    page = visit("series")
    page.get_by_label("as JSON", exact=True).check()
    page.get_by_label("the request as JSON").fill("typed")
    assert page.locator("#versions tr").count() == 1
    save(served[1] / "2", MODELS["series"], EXAMPLES["series"])
    page.locator("#versions").get_by_text("END").wait_for()
    assert page.locator("#versions").inner_text().split() == ["2", "AVAILABLE", "1", "END"]
    assert page.get_by_label("the request as JSON").input_value() == "typed"
    assert page.get_by_label("use version 1").is_disabled() and page.get_by_label("use version 2").is_checked()


def test_an_unreachable_server_is_reported(browser, served):
    page = browser.new_page()
    page.clock.install()
    page.goto(f"{served[0]}/")
    page.get_by_role("heading", name="half_plus_two", exact=True).wait_for()
    assert not page.get_by_role("alert").is_visible()
    page.context.set_offline(True)
    page.clock.fast_forward(4000)
    page.get_by_role("alert").get_by_text("Cannot load the models").wait_for()
    page.context.set_offline(False)
    page.clock.fast_forward(4000)
    page.get_by_role("alert").wait_for(state="hidden")
    page.close()


def test_small_screens_and_the_keyboard_work(browser, served):
    page = browser.new_page(viewport={"width": 360, "height": 700}, color_scheme="dark")
    page.goto(f"{served[0]}/#translator")
    page.locator("textarea").fill("ok")
    page.keyboard.press("Control+Enter")
    page.locator("#answer output").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    picture = Image.open(io.BytesIO(page.screenshot()))
    assert np.mean(picture.convert("L")) < 100  # dark
    page.close()
