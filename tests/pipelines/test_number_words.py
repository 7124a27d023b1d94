"""The pipeline of number words: texts, options, and one run end to end."""

from pathlib import Path

import keras_tuner as kt
import numpy as np
import pytest

from keras_dl.errors import UserError
from keras_dl.pipeline import load_pipeline

FILE = Path(__file__).parents[2] / "pipelines" / "number_words.py"


@pytest.fixture(scope="module")
def small():
    """The pipeline and its hyperparameters, for numbers below 1000."""
    pipeline, hp = load_pipeline(FILE), kt.HyperParameters()
    hp.values.update(largest=1000, units=64)
    return pipeline, hp


def test_an_unknown_kind_of_attention_is_an_error():
    hp = kt.HyperParameters()
    hp.values.update(largest=1000, compared="none,luong")
    with pytest.raises(UserError, match="compared must be among additive, general, dot, none. Received: luong"):
        load_pipeline(FILE).data(hp)


def test_request_and_answer_are_the_texts_of_an_example(small):
    pipeline, hp = small
    splits, model = pipeline.data(hp), pipeline.build(hp)
    example = next(iter(splits.test.unbatch()))
    (text,) = pipeline.request(example)["text"]
    inputs, labels = example
    assert model.source_tokenizer.text(inputs["source"]).numpy().decode() == text
    assert pipeline.answer(example).encode() == model.target_tokenizer.text(labels).numpy()
    assert set(pipeline.signatures(model)) == {"serving_default", "bounded"}


def test_end_to_end(run_end_to_end):
    values = {"units": 64, "batch_size": 128, "attention": "dot", "largest": 1000, "compared": "none"}
    artifacts, printed = run_end_to_end(FILE, **values)
    assert "attention_table.txt" in artifacts
    assert "\nnone " in printed and "\nadditive " not in printed


@pytest.mark.slow
def test_it_learns_to_translate():
    """After two epochs nearly all unseen numbers are correct, with teacher forcing and in the model's own output."""
    pipeline, hp = load_pipeline(FILE), kt.HyperParameters()
    splits, model = pipeline.data(hp), pipeline.build(hp)
    fitted = model.fit(splits.train, validation_data=splits.validation, epochs=2, shuffle=False, verbose=0)
    assert fitted.history["val_exact_match"][-1] > 0.97
    texts = ["dreiundzwanzig", "achtundneunzigtausendsieben"]
    decoded = model.decode(texts, beam_width=4)
    outputs = model.target_tokenizer.text(decoded.tokens)[:, 0].numpy().tolist()
    assert outputs == [b"twenty-three", b"ninety-eight thousand and seven"]
    # Attention moves: from the end of the word for "twenty" to its beginning for "three".
    alignment = np.asarray(decoded.alignment[0, 0])
    assert alignment[0, :14].argmax() > 6 and alignment[7, :14].argmax() < 6
