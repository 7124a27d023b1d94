"""Digits drawn on the page with a mouse are recognized by digits_ctc, trained here for two to four minutes."""

import random
import shutil
from pathlib import Path

import pytest

from keras_dl.cli import main
from keras_dl.serving.server.config import ModelConfig
from keras_dl.serving.server.inference import Inference
from keras_dl.serving.server.metrics import Metrics
from keras_dl.serving.server.rest.app import create_app
from keras_dl.serving.server.store import ModelStore

from ....conftest import enter, start_project
from .handwriting import write

PIPELINE = Path(__file__).parents[4] / "pipelines" / "digits_ctc.py"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reader(tmp_path_factory, empty_store, running):
    """The URL of a server of digits_ctc, trained with default values."""
    settings = start_project(tmp_path_factory.mktemp("digits"), empty_store)
    (settings.root / "pipelines").mkdir()
    path = shutil.copy(PIPELINE, settings.root / "pipelines")
    with pytest.MonkeyPatch.context() as patch:
        enter(settings, patch)
        assert main(["train", str(path)]) == 0
    with ModelStore([ModelConfig("digits_ctc", settings.saved_models / "digits_ctc")]) as store:
        assert store.polled.wait(60) and not store.unavailable()
        inference = Inference(store, Metrics())
        with running(create_app(inference)) as url:
            yield url
        inference.close(10)


def test_digits_drawn_with_a_mouse_are_recognized(reader, browser):
    """Measured: 16 of these 20, 55 of 60 others; most errors are a 6, which resembles the 4 in the training data."""
    page, read = browser.new_page(viewport={"width": 1000, "height": 900}), {}
    page.goto(reader)
    for seed in range(20):
        hand = random.Random(seed)
        text = "".join(hand.choice("0123456789") for _ in range(hand.randint(3, 6)))
        page.get_by_role("button", name="Clear").click()
        write(page, text, height=hand.uniform(70, 140), seed=seed)
        with page.expect_response("**:predict") as response:
            page.get_by_role("button", name="Run", exact=True).click()
        (answer,) = response.value.json()["outputs"]["text"]
        page.locator("#answer output").get_by_text(answer or "(nothing)", exact=True).wait_for()
        read[text] = answer
    correct = [text for text, answer in read.items() if text == answer]
    assert len(correct) >= 14, read
