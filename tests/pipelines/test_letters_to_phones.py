"""The pipeline of pronunciations: data, error rates, signatures and pictures, and one run end to end."""

import re
import sys
import types
from pathlib import Path

import keras
import keras_tuner as kt
import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.data import load
from keras_dl.data.builders.pronunciations import invent
from keras_dl.errors import UserError
from keras_dl.ops.special_ids import END, START
from keras_dl.pipeline import load_pipeline
from keras_dl.space import space

FILE = Path(__file__).parents[2] / "pipelines" / "letters_to_phones.py"
VALUES = {"units": 128, "batch_size": 64}


@pytest.fixture(scope="module")
def dictionary(tmp_path_factory):
    """A dictionary of invented words in capitals; every vowel has a stress."""
    path = tmp_path_factory.mktemp("dictionary") / "words.dict"
    lines = [
        f"{word.upper()}{f'({number + 1})' if number else ''}  "
        + " ".join(re.sub("^([AEIOU].)$", r"\g<1>1", phone) for phone in phones)
        for word, several in invent(400, seed=7).items()
        for number, phones in enumerate(several)
    ]
    path.write_text("\n".join(lines))
    return str(path)


def pipeline_of(dictionary, **values):
    """Returns the pipeline, its hyperparameters and its module."""
    pipeline, hp = load_pipeline(FILE), kt.HyperParameters()
    pipeline.source = dictionary
    hp.values.update(VALUES | values)
    return pipeline, hp, sys.modules[type(pipeline).__module__]


@pytest.fixture(scope="module")
def made(dictionary):
    pipeline, hp, module = pipeline_of(dictionary)
    pipeline.data(hp)  # sets the words, as every command does first
    return pipeline, hp, module


@pytest.fixture(scope="module")
def splits(made):
    pipeline, hp, _ = made
    return pipeline.data(hp)


@pytest.fixture(scope="module")
def random_model(made):
    """A model with random weights, large enough that its outputs differ."""
    pipeline, hp, _ = made
    model, generator = pipeline.build(hp), np.random.default_rng(0)
    model.set_weights([generator.normal(0, 0.3, weight.shape) for weight in model.get_weights()])
    return model


def test_the_space_and_the_objective(dictionary):
    pipeline, _, _ = pipeline_of(dictionary)
    assert (pipeline.name, pipeline.goal.test_metric) == ("letters_to_phones", ("exact_match", "max"))
    hp = space(pipeline, VALUES)
    assert {"units", "cell", "attention", "dropout", "learning_rate", "batch_size", "label_smoothing"} <= set(hp.values)
    assert type(next(entry for entry in hp.space if entry.name == "stress")).__name__ == "Fixed"
    pipeline.source = "nowhere.zip"
    with pytest.raises(UserError, match="cannot read the dictionary nowhere.zip"):
        space(pipeline)


def test_data_are_letters_and_phones(made, splits, dictionary):
    pipeline, hp, module = made
    source, target = module.tokenizers(pipeline.words)
    known = {word: [" ".join(phones) for phones in several] for word, several in invent(400, seed=7).items()}
    seen = set()
    for split in splits:
        for inputs, labels in split:
            assert (inputs["target"][:, 0].numpy() == START).all()
            np.testing.assert_array_equal(inputs["target"][:, 1:], np.where(labels == END, 0, labels)[:, :-1])
            assert (np.sum(labels == END, axis=1) == 1).all()
            words, phones = source.text(inputs["source"]).numpy(), target.text(labels).numpy()
            assert all(text.decode() in known[word.decode()] for word, text in zip(words, phones, strict=True))
            seen |= {word.decode() for word in words}
    assert seen == set(known)  # in lower case
    assert int(load("pronunciations", dictionary=dictionary, stress=False).test.cardinality()) == 20


def test_phones_can_include_the_stress(made, dictionary):
    pipeline, hp, module = pipeline_of(dictionary, stress=True)
    pipeline.data(hp)
    (_, phones), (_, plain) = module.tokenizers(pipeline.words), module.tokenizers(made[0].words)
    assert "IY1" in phones.vocabulary and "IY" not in phones.vocabulary and "IY" in plain.vocabulary
    words = next(iter(pipeline.data(hp).test))
    assert any("1" in pipeline.answer((None, labels)) for labels in words[1])


@pytest.mark.parametrize(
    "values", [{"cell": "gru"}, pytest.param({"cell": "peephole", "attention": "general"}, marks=pytest.mark.slow)]
)
def test_training_on_a_batch_reduces_its_loss(values, splits, dictionary):
    pipeline, hp, _ = pipeline_of(dictionary, dropout=0.0, **values)
    keras.utils.set_random_seed(0)
    model, batch = pipeline.build(hp), next(iter(splits.train))
    model.run_eagerly = True  # a graph would cost more than it saves
    model.optimizer.build(model.trainable_variables)  # otherwise Keras traces the training step twice
    results = [model.train_on_batch(*batch, return_dict=True) for _ in range(6)]
    assert set(results[0]) == {"loss", "exact_match", "token_accuracy"}
    assert results[-1]["loss"] < results[0]["loss"] - 0.3


def test_scheduled_sampling_reaches_its_share_at_the_end(splits, dictionary):
    pipeline, hp, _ = pipeline_of(dictionary, scheduled_sampling=True)
    pipeline.epochs = 1
    model = pipeline.build(hp)
    model.run_eagerly = True
    (callback,), steps = pipeline.callbacks(hp), pipeline.steps(hp)
    assert steps == np.ceil(int(load("pronunciations", dictionary=dictionary, stress=False).train.cardinality()) / 64)
    assert callback.sampling(0) == 0 and callback.sampling(steps) == pytest.approx(0.25) == callback.sampling(9 * steps)
    history = model.fit(splits.train, steps_per_epoch=2, callbacks=[callback], shuffle=False, verbose=0).history
    assert history["sampling_probability"] == [pytest.approx(callback.sampling(1))]
    assert np.isfinite(history["loss"]).all()


class FixedModel:
    """A model that returns a given output for each word."""

    def __init__(self, tokenizer, outputs):
        self.target_tokenizer, self.outputs = tokenizer, outputs

    def decode(self, words, max_length, **search):
        tokens = self.target_tokenizer([self.outputs[word.decode()] for word in words.numpy()])
        return types.SimpleNamespace(tokens=tf.where(tokens == 0, -1, tokens)[:, None])


def test_results_and_rates_of_four_words(made):
    pipeline, _, module = made
    _, phones = module.tokenizers(pipeline.words)
    words = {"Cow": ["K OW", "K AW"], "sit": ["S IH T"], "nil": ["N IH L", "N IY L M N"], "b": ["B IY", "ZH"]}
    outputs = {"cow": "K AW", "sit": "S IH", "nil": "N IY L L", "b": ""}
    rows = [
        {"source": word.encode(), "pronunciations": [phones.encode() for phones in several]}
        for word, several in words.items()
    ]
    results = module.pronounce(FixedModel(phones, outputs), rows, {})
    assert [tuple(result) for result in results] == [
        ("Cow", "K AW", "K AW", 0),
        ("sit", "S IH", "S IH T", 1),
        ("nil", "N IY L L", "N IH L", 2),  # the first of two that are equally similar
        ("b", "", "ZH", 1),  # with a phone that occurs in no training word
    ]
    rates = module.error_rates(results)
    assert rates == {"phoneme_error_rate": pytest.approx(4 / 9), "word_error_rate": pytest.approx(3 / 4)}
    header, first, *others = module.table_of_errors(results).splitlines()
    assert header.split() == ["edits", "word", "output", "target"] and len(others) == 3
    assert re.split(" {2,}", first.strip()) == ["2", "nil", "N IY L L", "N IH L"]


def test_the_report_covers_every_test_word_and_both_searches(made, splits, random_model, dictionary, capsys):
    pipeline, hp, module = made
    results = pipeline.report(random_model, splits)
    rates = ("phoneme_error_rate", "word_error_rate")
    assert set(results) == {*rates, *(f"{rate}_greedy" for rate in rates)}
    line = capsys.readouterr().out.strip()
    assert line.startswith(f"beam of 5: phoneme error rate {results['phoneme_error_rate']:.4f}, greedy ")
    assert line.endswith(
        f"word error rate {results['word_error_rate']:.4f}, greedy {results['word_error_rate_greedy']:.4f}"
    )
    beam, greedy = module.test_results(pipeline.words, random_model)
    test = load("pronunciations", dictionary=dictionary, stress=False).test
    words = {word["source"].decode() for word in test.as_numpy_iterator()}
    assert {word.word for word in beam} == {word.word for word in greedy} == words and len(beam) == len(words)
    for word in greedy[:3]:  # alone as in a batch; rounding errors grow along the output of random weights
        alone = random_model.target_tokenizer.text(random_model.decode([word.word], max_length=40).tokens).numpy()[0, 0]
        assert alone.decode().split()[:8] == word.output.split()[:8]


@pytest.fixture(scope="module")
def pronounce(made, random_model):
    """pronounce(texts): runs the exported function; returns its outputs as arrays."""
    function, inputs = made[0].signatures(random_model)["serving_default"]
    assert [(spec.name, spec.shape.as_list(), spec.dtype) for spec in inputs] == [("text", [None], tf.string)]
    graph = tf.function(function, input_signature=inputs)
    return lambda texts: {key: value.numpy() for key, value in graph(tf.constant(texts, tf.string)).items()}


def test_outputs_of_the_signature(pronounce, made):
    outputs = pronounce(["sheep", "QUICK9", ""])
    phones = set(made[2].tokenizers(made[0].words)[1].vocabulary)
    assert {word for text in outputs["alternatives"].flat for word in text.decode().split(" ") if word} <= phones
    assert outputs["alternatives"].shape == outputs["alternative_scores"].shape == (3, 3)
    assert (np.diff(outputs["alternative_scores"]) <= 0).all()
    np.testing.assert_array_equal(outputs["text"], outputs["alternatives"][:, 0])
    np.testing.assert_array_equal(outputs["score"], outputs["alternative_scores"][:, 0])
    assert outputs["unknown"].tolist() == [0, 1, 0]
    steps = len(outputs["text"][0].decode().split())
    assert outputs["alignment"].shape[0] == 3 and outputs["alignment"].shape[2] == 6
    np.testing.assert_allclose(outputs["alignment"][0, :steps].sum(axis=1), 1, atol=1e-5)
    assert (outputs["alignment"][0, :, 5] == 0).all()  # after the end of the word


def test_upper_and_lower_case_give_the_same_answer(pronounce):
    lower, upper = pronounce(["sheep", "quick"]), pronounce(["SHEEP", "Quick"])
    assert len(set(lower["text"])) == 2
    for key, value in lower.items():
        np.testing.assert_array_equal(upper[key], value)


def test_the_bounded_signature_limits_the_length(made, random_model):
    function, inputs = made[0].signatures(random_model)["bounded"]
    assert [spec.name for spec in inputs] == ["text", "max_length"]
    texts = function(tf.constant(["SHEEP", "quick"]), tf.constant(2))["alternatives"].numpy().flat
    assert max(len(text.decode().split()) for text in texts) <= 2


def test_request_and_answer(made, splits, pronounce):
    inputs, labels = next(iter(splits.test))
    request = made[0].request(({"source": inputs["source"][0]}, labels[0]))
    words = invent(400, seed=7)
    (word,) = request["text"]
    assert made[0].answer((inputs, labels[0])) == " ".join(words[word][0])
    assert len(pronounce(**{"texts": request["text"]})["text"]) == 1


def test_pictures(made, splits, random_model):
    pictures = made[0].pictures(random_model, splits)
    assert set(pictures) == {"attention", "worst"}
    assert isinstance(pictures["attention"], matplotlib.figure.Figure)
    beam, _ = made[2].test_results(made[0].words, random_model)
    expected = {f"{word.word}: {word.output}" for word in beam}
    titles = [axis.get_title() for axis in pictures["attention"].axes if axis.get_title()]
    assert titles and set(titles) <= expected
    assert all(len(title.partition(":")[0]) >= 9 for title in titles)
    counts = [int(line.split()[0]) for line in pictures["worst"].splitlines()[1:]]
    assert counts == sorted(counts, reverse=True) and counts[0] == max(word.edits for word in beam)
    pictures["attention"].canvas.draw()
    plt.close(pictures["attention"])


def test_empty_outputs_have_no_heat_map(made, splits):
    mute = made[0].build(made[1])
    bias = mute.decoder.project.bias
    bias.assign(tf.one_hot(END, bias.shape[0]) * 100)
    pictures = made[0].pictures(mute, splits)
    assert set(pictures) == {"worst"}
    assert made[0].report(mute, splits)["word_error_rate"] == 1 == made[0].report(mute, splits)["phoneme_error_rate"]


@pytest.mark.slow
def test_end_to_end(run_end_to_end, dictionary):
    artifacts, printed = run_end_to_end(FILE, "--data", dictionary, units=128, batch_size=256, attention="dot")
    assert "worst.txt" in artifacts
    assert "\nbeam of 5: phoneme error rate " in printed


@pytest.mark.slow
def test_invented_words_are_learned():
    pipeline, hp, module = pipeline_of(None)
    pipeline.epochs = 6
    keras.utils.set_random_seed(0)
    splits, model = pipeline.data(hp), pipeline.build(hp)
    model.fit(splits.train, epochs=pipeline.epochs, shuffle=False, verbose=0)
    results = pipeline.report(model, splits)
    assert results["phoneme_error_rate"] < 0.03, results
