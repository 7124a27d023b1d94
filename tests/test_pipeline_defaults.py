"""Defaults of a pipeline: signatures, requests and optional methods."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl import Pipeline
from keras_dl.errors import UserError


def served(model, *arrays):
    function, inputs = Pipeline().signatures(model)["serving_default"]
    graph = tf.function(function, input_signature=inputs)
    return [spec.name for spec in inputs], graph(*arrays)


def sequential_model():
    return keras.Sequential([keras.Input((2,), name="pair"), keras.layers.Dense(1, name="one")])


def pair_model():
    pair = keras.Input((2,), name="pair")
    return keras.Model(pair, keras.layers.Dense(1, name="one")(pair))


@pytest.mark.parametrize("build", [pair_model, sequential_model])
def test_the_default_signature_has_the_names_of_the_model(build):
    model = build()
    rows = np.ones([3, 2], "float32")
    names, outputs = served(model, rows)
    assert names == ["pair"]
    assert list(outputs) == ["one"]
    np.testing.assert_allclose(outputs["one"], model(rows), rtol=1e-6)


def test_several_inputs_and_outputs_keep_their_names():
    first, second = keras.Input((None, 2), name="first"), keras.Input((3,), dtype="int32", name="second")
    total = keras.layers.GlobalAveragePooling1D(name="mean")(first)
    doubled = keras.layers.Rescaling(2.0, name="doubled")(second)
    arrays = np.arange(8, dtype="float32").reshape(1, 4, 2), np.array([[1, 2, 3]], "int32")
    for outputs in ([total, doubled], {"mean": total, "doubled": doubled}):
        names, found = served(keras.Model([first, second], outputs), *arrays)
        assert names == ["first", "second"]
        np.testing.assert_allclose(found["mean"], [[3, 4]])
        np.testing.assert_allclose(found["doubled"], [[2, 4, 6]])


def auto_named(kind):
    row = keras.Input((2,))
    layer = keras.layers.BatchNormalization()
    if kind == "sequential":
        return keras.Sequential([row, layer])
    if kind == "nested":
        return keras.Model(row, keras.Sequential([layer])(row))
    return keras.Model(row, keras.ops.relu(layer(row)) if kind == "operation" else layer(row))


@pytest.mark.parametrize("kind", ["functional", "sequential", "nested", "operation"])
def test_names_do_not_depend_on_the_models_that_were_built_before(kind, tmp_path):
    for model in (auto_named(kind), auto_named(kind)):
        names, outputs = served(model, np.ones([3, 2], "float32"))
        assert (names, list(outputs)) == (["input"], ["output"])
    model.save(tmp_path / "model.keras")
    names, outputs = served(keras.models.load_model(tmp_path / "model.keras"), np.ones([3, 2], "float32"))
    assert (names, list(outputs)) == (["input"], ["output"])


def test_several_generated_names_are_numbered():
    rows = [keras.Input((2,)), keras.Input((2,), name="input_1"), keras.Input((2,))]
    dense, named = keras.layers.Dense(1), keras.layers.Dense(1, name="dense_level")
    model = keras.Model(rows, [dense(rows[0]), named(rows[1]), dense(rows[2])])
    arrays = [np.full([3, 2], value, "float32") for value in (1, 2, 3)]
    names, outputs = served(model, *arrays)
    assert names == ["input_2", "input_1", "input_3"]
    assert list(outputs) == ["output_1", "dense_level", "output_2"]
    for found, expected in zip(outputs.values(), model(arrays), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_default_signature_does_not_train():
    pair = keras.Input((2,), name="pair")
    _, outputs = served(keras.Model(pair, keras.layers.Dropout(0.9, name="dropped")(pair)), np.ones([5, 2], "float32"))
    np.testing.assert_array_equal(outputs["dropped"], 1)


def test_optional_methods_have_defaults():
    pipeline = Pipeline()
    request = pipeline.request((tf.constant([1.0, 2.0]), tf.constant(0)))
    assert request[""].tolist() == [[1.0, 2.0]]
    assert pipeline.answer(None) is None and pipeline.callbacks(None) == []
    assert pipeline.report(None, None) == pipeline.pictures(None, None) == {}
    for method in (pipeline.data, pipeline.build):
        with pytest.raises(NotImplementedError):
            method(None)


def test_the_default_request_has_the_names_of_the_inputs():
    pipeline = Pipeline()
    pipeline.name = "mine"
    request = pipeline.request(({"left": tf.constant([1.0]), "right": tf.constant(2)}, 0))
    assert {name: array.tolist() for name, array in request.items()} == {"left": [[1.0]], "right": [2]}
    with pytest.raises(UserError, match=r"mine has several unnamed inputs: implement request\(example\)"):
        pipeline.request(((tf.constant(1), tf.constant(2)), 0))


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


@pytest.mark.parametrize("build", [Subclassed, lambda: keras.Sequential([keras.layers.Dense(1)])], ids=["sub", "seq"])
def test_a_model_without_known_inputs_is_reported(build):
    message = r"begin a Sequential with keras.Input\(...\), or implement signatures\(model\)$"
    with pytest.raises(UserError, match=message):
        Pipeline().signatures(build())
