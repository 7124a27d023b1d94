"""The digits pipeline: shapes, signatures and pictures of an untrained model, and one run end to end."""

from pathlib import Path

import keras
import matplotlib.figure
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.data import load
from keras_dl.data.ops import columns
from keras_dl.pipeline import load_pipeline
from keras_dl.space import space

FILE = Path(__file__).parents[2] / "pipelines" / "digits_ctc.py"


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline(FILE)


@pytest.fixture(scope="module")
def splits(pipeline):
    return pipeline.data(space(pipeline))


@pytest.fixture(scope="module")
def reader(pipeline):
    """A model with random weights, large enough that its output is not empty."""
    keras.utils.set_random_seed(0)
    model = pipeline.build(space(pipeline, {"dropout": 0.0, "filters": 16}))
    generator = np.random.default_rng(0)
    model.set_weights([generator.normal(0, 0.4, weight.shape) for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def read(pipeline, reader):
    """read(images [B, H, W]): runs the exported function; returns texts and scores."""
    function, inputs = pipeline.signatures(reader)["serving_default"]
    graph = tf.function(function, input_signature=inputs)

    def call(images):
        outputs = graph(tf.constant(images, tf.float32))
        assert set(outputs) == {"text", "score"}
        return [text.decode() for text in outputs["text"].numpy()], outputs["score"].numpy()

    return call


@pytest.fixture(scope="module")
def images():
    """Raw test images of one width, uint8 [B, 10, W]."""
    by_width = {}
    for example in load("digit_strings").test.as_numpy_iterator():
        by_width.setdefault(example["image"].shape[1], []).append(example["image"][..., 0])
    return np.stack(max((group for width, group in by_width.items() if width > 30), key=len)[:12])


def test_the_space_and_the_objective(pipeline):
    hp = space(pipeline)
    assert pipeline.name == "digits_ctc"
    assert pipeline.goal.test_metric == ("label_error_rate", "min")
    assert {"learning_rate", "batch_size", "dropout"} <= set(hp.values)
    assert hp.get("batch_size") == 64


def test_data_are_columns_and_labels_above_the_blank(splits):
    for split, size in zip(splits, (64, 256, 256), strict=True):
        images, labels = next(iter(split))
        assert (images.dtype, labels.dtype) == (tf.float32, tf.int64)
        assert images.shape[0] == labels.shape[0] == size
        assert images.shape[2] == 10
        assert (labels.numpy().min(), labels.numpy().max()) == (0, 10)
        np.testing.assert_array_equal(tf.reduce_max(images, axis=(1, 2)), 1)
        assert (labels[:, 0].numpy() > 0).all()


def test_every_string_occurs_once(splits):
    assert [sum(len(labels) for _, labels in split) for split in splits] == [8000, 1000, 1000]


def test_the_labels_fit_into_the_frames(splits, reader):
    frames = reader.compute_output_shape((1, 8, 10))[1]
    assert frames == 4  # of the narrowest digit; a repeated digit requires one more frame
    for images, labels in splits.test.take(3):
        widths = tf.reduce_sum(tf.cast(tf.reduce_any(images != 0, axis=-1), tf.int32), axis=-1)
        needed = tf.reduce_sum(tf.cast(labels > 0, tf.int32), axis=-1) * 2 - 1
        assert (widths.numpy() // 2 >= needed.numpy()).all()


@pytest.mark.slow
def test_training_on_a_batch_reduces_its_loss(pipeline, splits):
    model = pipeline.build(space(pipeline, {"dropout": 0.0, "filters": 16}))
    images, labels = next(iter(splits.train))
    model.optimizer.build(model.trainable_variables)  # otherwise Keras traces the training step twice
    losses = [model.train_on_batch(images, labels, return_dict=True)["loss"] for _ in range(6)]
    assert losses[-1] < losses[0]


def test_the_signature_returns_the_text_of_the_model(read, reader, images):
    texts, scores = read(images)
    assert len(set(texts)) > len(texts) // 2 and max(len(text) for text in texts) > 3
    logits = reader(np.transpose(images, [0, 2, 1]).astype("float32") / images.max(axis=(1, 2), keepdims=True))
    expected, _ = reader.get_layer("ctc_output").decode(logits)
    assert texts == [text.decode() for text in expected.numpy()]
    best = tf.reduce_sum(tf.reduce_max(tf.nn.log_softmax(logits), axis=-1), axis=-1)
    np.testing.assert_allclose(scores, best, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [1 / 255, 1 / 16, 100.0])
def test_the_scale_of_pixels_does_not_matter(scale, read, images):
    texts, scores = read(images)
    scaled_texts, scaled_scores = read(images * scale)
    assert scaled_texts == texts
    np.testing.assert_allclose(scaled_scores, scores, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("factor", [2, 3])
def test_an_enlarged_image_gives_the_same_text(factor, read, images):
    texts, scores = read(images)
    large_texts, large_scores = read(np.kron(images, np.ones([1, factor, factor])))
    assert large_texts == texts
    np.testing.assert_allclose(large_scores, scores, rtol=1e-3, atol=1e-3)


def test_a_shorter_image_is_padded_with_a_margin(read, images):
    low = images[:, 1:9]
    assert read(low)[0] == read(np.pad(low, [[0, 0], [1, 1], [0, 0]]))[0]


@pytest.mark.parametrize("padding", [1, 2, 3, 10, 37])
def test_padding_on_the_right_changes_neither_text_nor_score(padding, read, images):
    texts, scores = read(images)
    padded_texts, padded_scores = read(np.pad(images, [[0, 0], [0, 0], [0, padding]]))
    assert padded_texts == texts
    np.testing.assert_allclose(padded_scores, scores, atol=1e-4)


def test_an_image_gives_the_same_text_alone_and_in_a_batch(read, images):
    texts, scores = read(images)
    for row in range(3):
        text, score = read(images[row : row + 1])
        assert text == texts[row : row + 1]
        np.testing.assert_allclose(score, scores[row : row + 1], atol=1e-4)


def test_an_image_without_ink_gives_an_empty_text_with_score_0(read):
    texts, scores = read(np.zeros([1, 10, 20]))
    assert texts == [""]
    np.testing.assert_array_equal(scores, 0)


def test_the_picture_shows_target_and_text(pipeline, reader, splits):
    pictures = pipeline.pictures(reader, splits)
    assert list(pictures) == ["test_strings"]
    figure = pictures["test_strings"]
    assert isinstance(figure, matplotlib.figure.Figure)
    images, labels = next(iter(splits.test))
    targets = ["".join(str(label - 1) for label in row if label > 0) for row in labels.numpy()]
    texts, _ = reader.get_layer("ctc_output").decode(reader(images))
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles == [
        f"{target} read as {text.decode()}" for target, text in zip(targets[:12], texts.numpy(), strict=False)
    ]
    figure.canvas.draw()
    plt.close(figure)


def test_request_is_an_image_and_answer_its_text(pipeline, read, splits):
    image, labels = next(splits.test.unbatch().as_numpy_iterator())
    request, answer = pipeline.request((image, labels)), pipeline.answer((image, labels))
    np.testing.assert_array_equal(request["image"], image.T[None])
    matching = [
        example
        for example in load("digit_strings").test.as_numpy_iterator()
        if example["text"].decode() == answer
        and np.array_equal(columns(example["image"][..., 0]), image[: example["image"].shape[1]])
    ]
    assert len(matching) == 1
    texts, scores = read(request["image"])
    again = read(matching[0]["image"][None, ..., 0])
    assert texts == again[0]
    np.testing.assert_allclose(scores, again[1], atol=1e-4)


def test_end_to_end(run_end_to_end):
    artifacts, _ = run_end_to_end(FILE, "--jit", "off", filters=16, batch_size=96)
    assert "test_strings.png" in artifacts
