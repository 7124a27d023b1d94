"""The model's answers to the example, to rows of different lengths, and to an empty batch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.errors import UserError
from keras_dl.serving.export.endpoints import endpoints_of
from keras_dl.serving.export.expected import answer, expected_answers, request_arrays

from .parts import level, level_model


@pytest.fixture(scope="module")
def model():
    return level_model()


def test_three_requests(model):
    endpoint = endpoints_of(level(), model)["serving_default"]
    pairs = expected_answers(level(), endpoint, {"signal": np.ones((2, 9, 2), "float32")})
    assert [request["signal"].shape for request, _ in pairs] == [(2, 9, 2), (3, 9, 2), (0, 9, 2)]
    assert [answers["level"].shape for _, answers in pairs] == [(2, 9, 1), (3, 9, 1), (0, 9, 1)]
    np.testing.assert_allclose(pairs[0][1]["level"], model(np.ones((2, 9, 2))), rtol=1e-6)


def test_requests_that_the_model_rejects_are_omitted(model):
    def full(signal):
        tf.debugging.assert_greater(tf.shape(signal)[0], 0, "no rows")
        return {"level": model(signal)}

    pipeline = level(full)
    endpoint = endpoints_of(pipeline, model)["serving_default"]
    pairs = expected_answers(pipeline, endpoint, {"signal": np.ones((1, 9, 2), "float32")})
    assert [len(request["signal"]) for request, _ in pairs] == [1, 3]
    with pytest.raises(UserError, match=r"request\(example\) of level must return at least one row"):
        request_arrays(pipeline, endpoint, {"signal": np.ones((0, 9, 2), "float32")})


def test_requests_have_the_types_of_the_inputs(model):
    endpoint = endpoints_of(level(), model)["serving_default"]
    arrays = request_arrays(level(), endpoint, {"": [[[1, 2]]]})
    assert (arrays["signal"].dtype, arrays["signal"].shape) == (np.float32, (1, 1, 2))
    with pytest.raises(UserError, match=r"request\(example\) must return signal. Received: other"):
        request_arrays(level(), endpoint, {"other": [[[1, 2]]]})
    with pytest.raises(UserError, match="the signature of level cannot answer its own request"):
        request_arrays(level(), endpoint, {"signal": [["a"]]})


def test_strings_become_bytes(model):
    pipeline = level(lambda text: {"text": text}, tf.TensorSpec([None], tf.string, name="text"))
    endpoint = endpoints_of(pipeline, model)["serving_default"]
    for given in (["hä"], np.array(["hä"]), np.array([b"h\xc3\xa4"]), np.array(["hä"], object)):
        text = request_arrays(pipeline, endpoint, {"text": given})["text"]
        assert (text.dtype, text.tolist()) == (object, ["hä".encode()])
    scalar = tf.TensorSpec([], tf.string, name="text")
    endpoint = type(endpoint)(endpoint.function, (scalar,), endpoint.original)
    text = request_arrays(pipeline, endpoint, {"text": "a\0"})["text"]
    assert (text.dtype, text.shape, text.item()) == (object, (), b"a\0")


def test_an_answer_without_an_export(model):
    assert answer(level(), model, {"": np.ones((1, 3, 2))})["level"].shape == (1, 3, 1)
    with pytest.raises(UserError, match="the signature of level cannot answer its own request"):
        answer(level(), model, {"": np.ones((1, 3, 5))})


def test_a_model_whose_answers_change(model):
    count, noise = tf.Variable(0.0), keras.layers.GaussianNoise(1.0, seed=0)
    noisy = level(lambda x: {"y": noise(model(x), training=True)})
    for pipeline in (noisy, level(lambda x: {"y": model(x) + count.assign_add(1.0)})):
        endpoint = endpoints_of(pipeline, model)["serving_default"]
        with pytest.raises(UserError, match="differently each time: y is .* the seed an input; if it keeps state"):
            expected_answers(pipeline, endpoint, {"signal": np.ones((1, 3, 2), "float32")})
