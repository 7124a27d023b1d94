"""Conversion of a pipeline's signatures: names, dense tensors, dtypes that JSON supports, and tables."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dl.errors import UserError
from keras_dl.pipeline import Pipeline
from keras_dl.serving.export.endpoints import endpoints_of, write_archive

X = tf.TensorSpec([None, 2], tf.float32, name="x")


@pytest.fixture(scope="module")
def model():
    x = keras.Input((2,), name="x")
    return keras.Model(x, keras.layers.Dense(1, name="y", kernel_initializer="ones")(x))


def pipeline_of(**signatures):
    pipeline = Pipeline()
    pipeline.name = "m"
    pipeline.signatures = lambda model: signatures
    return pipeline


def saved(model, folder, **signatures):
    """Returns the signatures of an archive that was written and loaded."""
    write_archive(model, endpoints_of(pipeline_of(**signatures), model), str(folder))
    return tf.saved_model.load(str(folder)).signatures


def test_the_default_comes_first(model):
    names = endpoints_of(pipeline_of(a=(dict, [X]), serving_default=(dict, [X]), b=(dict, [X])), model)
    assert list(names) == ["serving_default", "a", "b"]
    assert names["a"].shapes == {"x": (None, 2)}
    with pytest.raises(UserError, match="the signatures of m must include 'serving_default'. Received: a, b"):
        endpoints_of(pipeline_of(a=(dict, [X]), b=(dict, [X])), model)


@pytest.mark.parametrize("name", [None, "", "a/b", "a b", "a:0", "a.b", "a-b", "_h", "9x", "class", "None", "self"])
def test_invalid_input_names(model, name):
    specs = [keras.InputSpec(shape=(None, 2), dtype="float32", name=name)]
    with pytest.raises(UserError, match=r"'serving_default' of m: each input needs a unique name.*Received: "):
        endpoints_of(pipeline_of(serving_default=(dict, specs)), model)


@pytest.mark.parametrize("other", ["x", "X"])
def test_input_names_are_unique(model, other):
    specs = [X, tf.TensorSpec([None], tf.float32, name=other)]
    with pytest.raises(UserError, match=f"each input needs a unique name.*Received: x, {other}"):
        endpoints_of(pipeline_of(serving_default=(dict, specs)), model)


@pytest.mark.parametrize("given", [dict, None, (dict, X), (dict,), ([X], dict), (dict, [X], 3), (dict, None)])
def test_a_signature_must_be_a_pair(model, given):
    with pytest.raises(UserError, match="signature 'serving_default' of m must be a pair of a function and a list of"):
        endpoints_of(pipeline_of(serving_default=given), model)


def test_valid_input_names_are_not_changed(model, tmp_path):
    names = ["a_", "a__b", "A_b", "x_1", "cls", "args", "training", "Class"]
    specs = [tf.TensorSpec([None, 2], tf.float32, name=name) for name in names]
    served = saved(model, tmp_path / "1", serving_default=(lambda *tensors: {"y": tensors[0]}, specs))
    assert sorted(served["serving_default"].structured_input_signature[1]) == sorted(names)


def test_an_error_of_the_archive(model, tmp_path):
    endpoint = endpoints_of(pipeline_of(serving_default=(lambda x: {"y": model(x)}, [X])), model)["serving_default"]
    wrong = type(endpoint)(endpoint.function, (tf.TensorSpec([None, 2], tf.float32, name="class"),), endpoint.original)
    with pytest.raises(UserError, match="the signatures cannot be exported: 'class' is not a valid parameter name"):
        write_archive(model, {"serving_default": wrong}, str(tmp_path / "1"))


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda x: x, "must return a dictionary of named tensors. Received: "),
        (lambda x: [x], "must return a dictionary of named tensors. Received: list"),
        (lambda x: {}, "must return a dictionary of named tensors. Received: dict"),
        (lambda x: {"a/b": x}, "output names consist of letters, digits, _ . and -. Received: 'a/b'"),
        (lambda x: {1: x}, "output names .* Received: 1"),
        (
            lambda x: {"y": tf.RaggedTensor.from_tensor(x)},
            "output y is a RaggedTensor: make it dense, for example with .to_tensor()",
        ),
        (lambda x: {"y": tf.sparse.from_dense(x)}, "output y is a SparseTensor: make it dense"),
        (lambda x: {"y": tf.complex(x, x)}, "output y is complex64, .* its real and imaginary parts"),
    ],
)
def test_outputs_are_named_and_dense(tmp_path, model, outputs, message):
    endpoint = endpoints_of(pipeline_of(serving_default=(outputs, [X])), model)["serving_default"]
    with pytest.raises(UserError, match=message):
        endpoint.function(tf.ones([1, 2]))
    with pytest.raises(UserError, match=message):  # also during tracing
        write_archive(model, {"serving_default": endpoint}, str(tmp_path / "1"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("half", [tf.float16, tf.bfloat16])
def test_half_types_are_cast(model, tmp_path, half):
    seen = []

    def double(x):
        seen.append(x.dtype)
        return {"y": x * 2, "n": tf.shape(x)[0]}

    (served, *_) = saved(
        model, tmp_path / "1", serving_default=(double, [tf.TensorSpec([None], half, name="x")])
    ).values()  # fmt: skip
    assert set(seen) == {half}
    answer = served(x=tf.constant([1.5]))
    assert (answer["y"].dtype, answer["y"].numpy().tolist(), answer["n"].dtype) == (tf.float32, [3.0], tf.int32)


TABLE = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a"], [10]), -1)


def words(function):
    return {"serving_default": (function, [tf.TensorSpec([None], tf.string, name="word")])}


def look_up_in_a_global(word):
    return {"number": TABLE.lookup(word)}


def test_tables_in_a_global(model, tmp_path):
    served = saved(model, tmp_path / "1", **words(look_up_in_a_global))["serving_default"]
    assert served(word=tf.constant(["a", "b"]))["number"].numpy().tolist() == [10, -1]


def test_tables_in_closures_methods_and_lists(model, tmp_path):
    layer = keras.layers.StringLookup(vocabulary=["c", "d"])
    tables = [TABLE]

    def inner(word):
        return tables[0].lookup(word)

    class Lookup:
        def __call__(self, word):
            return {"number": inner(word), "index": layer(word)}

    lookup = Lookup()
    served = saved(model, tmp_path / "1", **words(lambda word: {"n": inner(word), "index": layer(word)}))
    answer = served["serving_default"](word=tf.constant(["a", "d"]))
    assert (answer["n"].numpy().tolist(), answer["index"].numpy().tolist()) == ([10, -1], [0, 2])
    with pytest.raises(UserError, match="uses a table .* not part of the export: assign it to the model in build"):
        saved(model, tmp_path / "2", **words(lookup))


def test_a_python_condition_on_a_tensor(model, tmp_path):
    def branch(x):
        return {"y": x if x[0, 0] > 0 else -x}

    with pytest.raises(UserError, match="signature 'serving_default' of m cannot be traced: .* tf.cond"):
        saved(model, tmp_path / "1", serving_default=(branch, [X]))


def test_cudnn_is_not_used(tmp_path):
    x = keras.Input((None, 2), name="x")
    model = keras.Model(x, keras.layers.Bidirectional(keras.layers.LSTM(3))(x))
    lstm, seen = model.layers[1].forward_layer, []

    def answer(x):
        seen.append(lstm.use_cudnn)
        return {"y": model(x)}

    before = lstm.use_cudnn
    pipeline = pipeline_of(serving_default=(answer, [tf.TensorSpec([None, None, 2], name="x")]))
    write_archive(model, endpoints_of(pipeline, model), str(tmp_path / "1"))
    assert before == lstm.use_cudnn == "auto"
    assert set(seen) == {False}


def test_unnamed_outputs_get_the_names_of_their_layers():
    pipeline, x = Pipeline(), keras.Input((2,), name="x")
    hidden = keras.layers.Dense(2, name="hidden")(x)
    model = keras.Model(x, [hidden, keras.layers.Dense(1, name="top")(hidden)])
    endpoint = endpoints_of(pipeline, model)["serving_default"]
    assert set(endpoint.function(np.ones((1, 2), "float32"))) == {"hidden", "top"}
