"""The pipeline of number words: the model, its table, its pictures."""

from pathlib import Path

import keras_tuner as kt
import numpy as np
import pytest

from keras_dl.errors import UserError
from keras_dl.pipeline import load_pipeline

FILE = Path(__file__).parents[2] / "pipelines" / "number_words.py"


@pytest.fixture(scope="module")
def small():
    """The pipeline on the numbers below 1000, and its values."""
    pipeline, hp = load_pipeline(FILE), kt.HyperParameters()
    hp.values.update(largest=1000, units=64)
    return pipeline, hp


def test_unknown_kinds_of_attention_are_refused_before_any_work():
    hp = kt.HyperParameters()
    hp.values.update(largest=1000, compared="none,luong")
    with pytest.raises(UserError, match="compared must be of additive, general, dot, none. Received: luong"):
        load_pipeline(FILE).data(hp)


def test_letters_go_in_and_come_out(small):
    pipeline, hp = small
    splits, model = pipeline.data(hp), pipeline.build(hp)
    example = next(iter(splits.test.unbatch()))
    (text,) = pipeline.request(example)["text"]
    inputs, labels = example
    assert model.source_tokenizer.text(inputs["source"]).numpy().decode() == text
    assert pipeline.answer(example).encode() == model.target_tokenizer.text(labels).numpy()
    assert set(pipeline.signatures(model)) == {"serving_default", "bounded"}


@pytest.mark.slow
def test_it_learns_to_translate():
    """Two epochs of the whole set: nearly all numbers never seen are right, also as the model writes them."""
    pipeline, hp = load_pipeline(FILE), kt.HyperParameters()
    splits, model = pipeline.data(hp), pipeline.build(hp)
    fitted = model.fit(splits.train, validation_data=splits.validation, epochs=2, shuffle=False, verbose=0)
    assert fitted.history["val_exact_match"][-1] > 0.97
    texts = ["dreiundzwanzig", "achtundneunzigtausendsieben"]
    decoded = model.decode(texts, beam_width=4)
    said = model.target_tokenizer.text(decoded.tokens)[:, 0].numpy().tolist()
    assert said == [b"twenty-three", b"ninety-eight thousand and seven"]
    # Attention moved: "twenty" looks at the end of the word, "three" at its beginning.
    alignment = np.asarray(decoded.alignment[0, 0])
    assert alignment[0, :14].argmax() > 6 and alignment[7, :14].argmax() < 6
