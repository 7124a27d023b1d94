"""Tests of CTCOutput: the general checks, certain blanks, and texts."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.layers import CTCOutput
from keras_dl.losses import CTCLoss
from keras_dl.ops.ctc import Lexicon
from keras_dl.ops.ngram import kneser_ney

from .check_layer import check_layer


@pytest.mark.parametrize("blank_index", [0, 1, 3])
def test_behaves_as_a_sequence_layer(blank_index, tmp_path):
    inputs = np.random.default_rng(1).normal(size=(3, 6, 4))
    arguments = {"vocabulary": ["a", "b", "ch"], "blank_index": blank_index}
    layer = check_layer(CTCOutput, arguments, inputs, tmp_path, compiled=blank_index == 1)
    weights = {weight.name: weight.shape for weight in layer.weights}
    assert weights == {"kernel": (4, 4), "bias": (4,)}


def test_logits_are_a_linear_projection():
    layer = CTCOutput(["a", "b"], kernel_initializer="ones", bias_initializer=keras.initializers.Constant(0.5))
    logits = layer(np.array([[[1.0, 2.0], [3.0, -4.0]]]))
    np.testing.assert_allclose(logits, [[[3.5] * 3, [-0.5] * 3]])


@pytest.mark.parametrize("blank_index", [0, 1, 2])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_a_masked_frame_predicts_the_blank_with_certainty(blank_index, policy):
    layer = CTCOutput(["a", "b"], blank_index, dtype=policy)
    inputs = np.full((1, 3, 4), np.nan, "float32")
    inputs[0, 0] = 1
    logits = layer(inputs, mask=np.array([[True, False, False]]))
    assert logits.dtype == tf.float32
    np.testing.assert_array_equal(tf.nn.softmax(logits[0, 1:]), [np.eye(3)[blank_index]] * 2)
    assert np.isfinite(logits[0, 0]).all()


def test_the_keras_mask_is_used_and_not_propagated():
    inputs = np.array([[[1.0], [2.0], [9.0]]], "float32")
    masked = keras.layers.Masking(mask_value=9.0)(inputs)
    logits = CTCOutput(["a"], bias_initializer="ones")(masked)
    np.testing.assert_array_equal(tf.nn.softmax(logits)[0, 2], [1, 0])
    assert getattr(logits, "_keras_mask", None) is None


@pytest.mark.parametrize("blank_index", [0, 1, 2])
def test_padding_with_nan_changes_neither_loss_nor_decoding(blank_index):
    generator = np.random.default_rng(2)
    layer = CTCOutput(["a", "b"], blank_index)
    inputs = generator.normal(size=(2, 5, 4)).astype("float32")
    padded = np.pad(inputs, [[0, 0], [0, 4], [0, 0]], constant_values=np.nan)
    labels = np.array([[c for c in range(3) if c != blank_index], [(blank_index + 1) % 3, -1]])
    loss = CTCLoss(blank_index)
    plain, longer = layer(inputs), layer(padded, mask=np.arange(9)[None] < np.array([[5], [5]]))
    np.testing.assert_allclose(loss(labels, longer), loss(labels, plain), rtol=1e-5)
    for short, long in zip(layer.decode(plain), layer.decode(longer), strict=True):
        if short.dtype == tf.string:
            assert short.numpy().tolist() == long.numpy().tolist()
        else:
            np.testing.assert_allclose(short, long, atol=1e-5)


@pytest.mark.parametrize(("blank_index", "path"), [(0, [1, 1, 0, 1, 3]), (1, [0, 0, 1, 0, 3]), (3, [0, 0, 3, 0, 2])])
def test_decode_returns_the_labels_of_the_best_path(blank_index, path):
    layer = CTCOutput(["a", "é", "ch"], blank_index)
    probabilities = np.where(np.eye(4)[[path]], 0.7, 0.1).astype("float32")
    text, score = layer.decode(np.log(probabilities))
    assert [value.decode() for value in text.numpy()] == ["aach"]
    np.testing.assert_allclose(score, [5 * np.log(0.7)], rtol=1e-5)


@pytest.mark.usefixtures("graphs")
def test_blanks_decode_to_the_empty_string():
    decode = tf.function(CTCOutput(["a", "b"]).decode)
    text, _ = decode(np.eye(3, dtype="float32")[[[0, 0], [0, 2]]] * 9)
    assert text.numpy().tolist() == [b"", b"b"]


def test_decoding_with_a_beam_sums_over_paths():
    layer = CTCOutput(["a", "b"])
    logits = np.log([[[0.6, 0.3, 0.1], [0.6, 0.3, 0.1]]]).astype("float32")  # best path: empty, 0.36
    text, score = layer.decode(logits)
    assert (text[0].numpy(), np.exp(score[0])) == (b"", pytest.approx(0.36))
    text, score = layer.decode(logits, beam_width=4)
    assert (text[0].numpy(), np.exp(score[0])) == (b"a", pytest.approx(2 * 0.6 * 0.3 + 0.3**2))


def test_decoding_with_a_lexicon_returns_only_its_words():
    layer = CTCOutput(["a", "b", " "])
    logits = np.eye(4, dtype="float32")[[[1, 0, 2, 3, 2]]] * 5  # "ab b", with the last b close to an a
    logits[0, 4, 1] = 4
    assert layer.decode(logits)[0][0].numpy() == b"ab b"
    words = Lexicon(["ab", "a"], layer.vocabulary)
    assert layer.decode(logits, beam_width=20, lexicon=words)[0][0].numpy() == b"ab a"
    with pytest.raises(ValueError, match="Received: 1 with lexicon"):
        layer.decode(logits, lexicon=words)


def test_the_language_model_is_over_words_with_a_lexicon_and_over_labels_without():
    layer = CTCOutput(["a", "b", " "])
    logits = np.full((1, 3, 4), -5, "float32")
    logits[0, [0, 1, 2], [1, 0, 1]] = 5
    logits[0, [0, 2], 2] = 4.9  # "b" nearly as probable as "a"
    assert layer.decode(logits)[0][0].numpy() == b"aa"
    labels = kneser_ney([["b", "b"], ["b", "b"], ["b"], ["a"]], order=2)
    assert layer.decode(logits, beam_width=9, language_model=labels, lm_weight=1.0)[0][0].numpy() == b"bb"
    words, lexicon = kneser_ney([["bb"], ["bb"], ["aa"]], order=1), Lexicon(["aa", "bb"], layer.vocabulary)
    text, _ = layer.decode(logits, beam_width=9, lexicon=lexicon, language_model=words, lm_weight=1.0)
    assert text[0].numpy() == b"bb"


@pytest.mark.parametrize("blank_index", [0, 1, 2])
def test_text_and_minimum_frames_respect_the_blank_index(blank_index):
    layer = CTCOutput(["a", "b"], blank_index)
    a, b = (c for c in range(3) if c != blank_index)
    labels = np.array([[a, b, -1], [b, b, blank_index]])
    assert layer.text(labels).numpy().tolist() == [b"ab", b"bb"]
    assert layer.minimum_frames(labels).numpy().tolist() == [2, 3]


def test_labels_may_be_numbers():
    for vocabulary in (range(3), 3, np.int64(3)):
        assert CTCOutput(vocabulary).vocabulary == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocabulary": []}, "at least one label"),
        ({"vocabulary": 0}, "at least one label"),
        ({"vocabulary": ["a", "a"]}, "no duplicates"),
        ({"vocabulary": ["a"], "blank_index": 2}, "`blank_index` must be at most 1. Received: 2"),
        ({"vocabulary": ["a"], "blank_index": -1}, "`blank_index` must be an integer of at least 0. Received: -1"),
    ],
)
def test_invalid_arguments_raise_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        CTCOutput(**arguments)


def test_tokens_of_unequal_length_are_texts():
    output = CTCOutput(["a", "b"], blank_index=2)  # so that a 0 for padding would be a label
    for tokens in ([[0, 1], [1]], tf.ragged.constant([[0, 1], [1]])):
        assert output.text(tokens).numpy().tolist() == [b"ab", b"b"]
