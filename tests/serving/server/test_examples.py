"""Classify and regress: the cases of TF Serving's classifier_test.cc and regressor_test.cc."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.serving.server.examples import classifications, example_inputs, regressions


@pytest.fixture(scope="module")
def models(store):
    return {name: store.get(name) for name in ("half_plus_two", "scores", "text", "sequences")}


def error_of(function, *arguments):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        function(*arguments)
    return caught.value.message


def test_inputs(models):
    name, inputs = example_inputs(models["scores"], "", [b"one\0", b"two"], "regress")
    assert name == "serving_default" and inputs["inputs"].tolist() == [b"one\0", b"two"]
    name, inputs = example_inputs(models["half_plus_two"], "classify_x_to_y", [b"one"], "classify")
    assert name == "classify_x_to_y" and inputs["inputs"].shape == (1,)


@pytest.mark.parametrize(
    "model, signature, method, message",
    [
        ("scores", "nope", "classify", "No signature was found with the name: nope"),
        ("sequences", "", "classify", "Expected one input Tensor."),
        ("sequences", "", "regress", "Expected one input Tensor."),
        ("text", "", "classify", "Expected one or two output Tensors, found 3"),
        ("text", "", "regress", "Expected one output Tensor."),
        ("text", "joined", "classify", "No classification inputs found in SignatureDef: "),
        ("text", "joined", "regress", "No regression inputs found in SignatureDef: "),
        ("scores", "classify_x_to_y", "regress", "No regression outputs found in SignatureDef: "),
        (
            "scores",
            "regress_x_to_y",
            "classify",
            'Expected classification signature outputs to contain at least one of "classes" or "scores". Signature was',
        ),
    ],
)
def test_unsuitable_signatures_are_rejected(models, model, signature, method, message):
    assert error_of(example_inputs, models[model], signature, [b""], method).startswith(message)


def test_an_empty_list_of_examples_is_rejected(models):
    assert error_of(example_inputs, models["scores"], "regress_x_to_y", [], "regress") == "Input is empty."


def test_classes_and_scores():
    classes, scores = np.array([[b"a", b"b"]], object), np.float32([[1, 0.5]])
    assert classifications({"classes": classes, "scores": scores}, 1) == [[(b"a", 1), (b"b", 0.5)]]
    assert classifications({"classes": classes}, 1) == [[(b"a", 0), (b"b", 0)]]
    assert classifications({"scores": scores}, 1) == [[(b"", 1), (b"", 0.5)]]
    assert classifications({"scores": np.zeros((2, 0), np.float32)}, 2) == [[], []]


@pytest.mark.parametrize(
    "outputs, message",
    [
        ({"scores": np.zeros(2, np.float32)}, "Expected Tensor shape: [batch_size num_classes] but got [2]"),
        ({"scores": np.zeros((2, 1))}, "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE"),
        ({"classes": np.zeros((2, 1), np.int32)}, "Expected classes Tensor of DT_STRING. Got: DT_INT32"),
        ({"scores": np.zeros((3, 1), np.float32)}, "Expected scores output batch size of 2. Got: 3"),
        (
            {"classes": np.full((2, 3), b"", object), "scores": np.zeros((2, 1), np.float32)},
            "Tensors class and score should match in dim_size(1). Got 3 vs. 1",
        ),
    ],
)
def test_invalid_classification_outputs_are_rejected(outputs, message):
    assert error_of(classifications, outputs, 2) == message


def test_values():
    for values in (np.float32([1, 2]), np.float32([[1], [2]])):
        assert regressions({"outputs": values}, 2).tolist() == [1, 2]


@pytest.mark.parametrize(
    "values, message",
    [
        (np.zeros((2, 2), np.float32), "either [batch_size] or [batch_size, 1] but got [2,2]"),
        (np.float32(1), "either [batch_size] or [batch_size, 1] but got []"),
        (np.zeros(3, np.float32), "Input batch size did not match output batch size: 2 vs. 3"),
        (np.zeros(2), "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE"),
    ],
)
def test_invalid_regression_outputs_are_rejected(values, message):
    assert message in error_of(regressions, {"outputs": np.asarray(values)}, 2)


def test_over_rest(send):
    path, body = "/v1/models/scores", {"signature_name": "classify_sign", "examples": [{"x": 0.5}, {"x": -2.0}]}
    results = [[["positive", 0.5], ["negative", -0.5]], [["negative", 2.0], ["positive", -2.0]]]
    assert send("POST", f"{path}:classify", body) == (200, {"results": results})
    assert send("POST", f"{path}:regress", {"examples": [{}, {"x": 80.0}]}) == (200, {"results": [2.0, 42.0]})
    status, answer = send("POST", f"{path}:regress", {"examples": [{"x": [1.0, 2.0]}]})
    assert status == 400 and "Key: x" in answer["error"]
