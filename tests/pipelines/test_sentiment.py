"""The sentiment pipeline: its models, their served outputs, the comparison of poolings and the picture."""

import functools
from pathlib import Path

import keras
import keras_tuner as kt
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.errors import UserError
from keras_dl.pipeline import load_pipeline
from keras_dl.space import space

FILE = Path(__file__).parents[2] / "pipelines" / "sentiment.py"
POOLINGS = ["attention", "last", "mean"]


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline(FILE)


@functools.cache
def built(pipeline, pooling):
    hp = kt.HyperParameters()
    hp.values["pooling"] = pooling
    keras.utils.set_random_seed(1)
    return pipeline.build(hp)


def served(pipeline, model, texts):
    function, [text] = pipeline.signatures(model)["serving_default"]
    return {name: tensor.numpy() for name, tensor in tf.function(function, [text])(tf.constant(texts)).items()}


def test_the_space_and_the_objective(pipeline):
    hp = space(pipeline)
    assert pipeline.goal.test_metric == ("accuracy", "max")
    names = {"pooling", "cell", "units", "embedding", "dropout", "learning_rate", "batch_size", "compared"}
    assert set(hp.values) == names
    with pytest.raises(UserError, match="pooling one of attention, last, mean"):
        space(pipeline, {"pooling": "max"})


def test_data_are_words_and_classes(pipeline):
    train, validation, test = pipeline.data(kt.HyperParameters())
    assert [sum(len(label) for _, label in split) for split in (train, validation, test)] == [3200, 400, 400]
    text, label = next(iter(train))
    assert text.dtype == tf.string and len(text) == len(label)
    assert set(label.numpy()) == {0, 1}
    assert pipeline.answer((text[0], label[0])) == ["negative", "positive"][label[0]]
    assert pipeline.request((text[0], label[0]))["text"].tolist() == [text[0].numpy().decode()]
    longest = max(len(row.split()) for row in text.numpy())
    assert longest < 2 * min(len(row.split()) for row in text.numpy())  # batches hold texts of similar length


@pytest.mark.parametrize("pooling", POOLINGS)
def test_served_outputs_include_the_weights_of_words(pipeline, pooling):
    model = built(pipeline, pooling)
    texts = ["The plot is NOT good.", "fine", "", "a zebra, b"]
    outputs = served(pipeline, model, texts)
    words = [b"the plot is not good .".split(), [b"fine"], [b"."], b"a zebra , b".split()]
    assert [[word for word in row if word] for row in outputs["words"].tolist()] == words
    assert set(outputs["label"].tolist()) <= {b"negative", b"positive"}
    assert ((outputs["score"] >= 0.5) & (outputs["score"] <= 1)).all()
    for weights, row in zip(outputs["weights"], words, strict=True):
        assert weights.sum() == pytest.approx(1)
        assert (weights[: len(row)] > 0).sum() == (min(len(row), 2) if pooling == "last" else len(row))
        np.testing.assert_array_equal(weights[len(row) :], 0)
        if pooling == "mean":
            np.testing.assert_allclose(weights[: len(row)], 1 / len(row), rtol=1e-6)
    alone = served(pipeline, model, texts[3:])
    np.testing.assert_allclose(alone["weights"], outputs["weights"][3:, :4], atol=1e-6)
    np.testing.assert_allclose(alone["score"], outputs["score"][3:], atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_served_weights_are_those_of_the_pooling(pipeline, pooling):
    model = built(pipeline, pooling)
    text = tf.constant(["the plot is not good . it lasts two hours ."])
    weights = served(pipeline, model, text.numpy())["weights"]
    if pooling == "last":
        np.testing.assert_array_equal(np.flatnonzero(weights[0]), [0, 10])
        return
    reader = model.get_layer("reader")
    steps = keras.Model(model.input, reader.output)(text)
    pooled = keras.Model(model.input, model.get_layer("pooling").output)(text)
    np.testing.assert_allclose(tf.einsum("bt,btd->bd", weights, steps), pooled, atol=1e-5)


@pytest.mark.slow
def test_a_loaded_model_serves_the_same_outputs(pipeline, tmp_path):
    model = built(pipeline, "attention")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    texts = ["to me the plot is good .", "nothing"]
    for key, array in served(pipeline, model, texts).items():
        np.testing.assert_array_equal(served(pipeline, loaded, texts)[key], array)


def test_texts_and_labels_from_a_folder(tmp_path):
    pipeline = load_pipeline(FILE)
    for label, word in (("good", "fine"), ("bad", "poor"), ("so-so", "medium")):
        (tmp_path / f"{label}.txt").write_text("".join(f"{word} number {n} <br /> end\n" for n in range(20)))
    pipeline.source = str(tmp_path)
    hp = space(pipeline)
    model = pipeline.build(hp)
    assert model.output.shape == (None, 3)
    assert {"fine", "poor", "medium", "number", "end"} <= set(model.get_layer("words").vocabulary)
    assert served(pipeline, model, ["fine"])["label"][0] in (b"bad", b"good", b"so-so")


def test_texts_in_which_no_word_occurs_twice(tmp_path):
    pipeline = load_pipeline(FILE)
    (tmp_path / "table").write_text("".join(f"{('pos', 'neg')[n % 2]}\tw{n}\n" for n in range(30)))
    pipeline.source = str(tmp_path / "table")
    vocabulary = pipeline.custom_objects["vocabulary"](pipeline.source)
    assert set(vocabulary) < {f"w{n}" for n in range(30)} and len(vocabulary) == 24


@pytest.mark.slow
def test_all_poolings_are_compared(capsys):
    pipeline = load_pipeline(FILE)
    pipeline.epochs = 1
    splits = pipeline.data(kt.HyperParameters())
    splits = type(splits)(splits.train.take(2), splits.validation.take(1), splits.test.take(2), splits.features)
    scores = pipeline.report(built(pipeline, "mean"), splits)
    table = capsys.readouterr().out
    assert list(scores) == [f"accuracy_{name}" for name in POOLINGS]
    for name in POOLINGS:
        assert f"\n{name} " in table and f"{scores[f'accuracy_{name}']:.4f}\n" in table
    pictures = pipeline.pictures(built(pipeline, "mean"), splits)
    assert table.endswith("\n" + pictures["poolings"] + "\n")
    [axis] = pictures["words"].axes
    assert sum(text.get_fontweight() == "bold" for text in axis.texts) == 10
    plt.close("all")


def test_words_with_higher_weights_are_darker(pipeline):
    outputs = {
        "label": tf.constant(["good", "bad"]),
        "score": tf.constant([0.75, 0.5]),
        "words": tf.constant([["not", "$bad$", "at"], ["all", "", ""]]),
        "weights": tf.constant([[0.2, 0.7, 0.1], [1.0, 0.0, 0.0]]),
    }
    figure = pipeline.custom_objects["colored_words"](outputs, np.array(["good", "good"]))
    [axis] = figure.axes
    texts = [text.get_text() for text in axis.texts]
    assert texts == ["good 0.75", "not", "$bad$", "at", "bad 0.50    (correct: good)", "all"]
    boxes = [text.get_bbox_patch() for text in axis.texts if text.get_bbox_patch() is not None]
    shades = [sum(box.get_facecolor()[:3]) for box in boxes]
    assert shades[1] == shades[3] < shades[0] < shades[2]
    figure.canvas.draw()
    plt.close(figure)


@pytest.mark.slow
def test_end_to_end(run_end_to_end, tmp_path):
    for label in ("dull", "fine"):
        (tmp_path / f"{label}.txt").write_text("".join(f"film number {n} was {label}\n" for n in range(30)))
    artifacts, printed = run_end_to_end(FILE, "--data", str(tmp_path), units=16, batch_size=64, compared="mean")
    assert {"words.png", "poolings.txt"} < artifacts
    assert "\nmean " in printed and "\nlast " not in printed
