"""A loaded export against what the model answered, and what is seen of each of its signatures."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.errors import UserError
from keras_dl.serving.export.clean import clean_process
from keras_dl.serving.export.measured import Measured, check_answers, measure_signatures
from keras_dl.serving.export.padding import Batching
from keras_dl.serving.export.traps import read_graph

EXAMPLE = {"x": np.random.default_rng(0).normal(size=(1, 6, 2)).astype("float32")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    module = tf.Module()
    module.weight = tf.Variable(2.0)

    def with_rows(x):
        tf.debugging.assert_greater(tf.shape(x)[0], 0, "no rows")
        return {"y": tf.reduce_sum(x, [1, 2])}

    def function(answer, shape, dtype=tf.float32, name="x"):
        return tf.function(answer, input_signature=[tf.TensorSpec(shape, dtype, name=name)])

    module.functions = {
        "serving_default": function(lambda x: {"y": x * module.weight}, [None, None, 2]),
        "mean": function(lambda x: {"y": tf.reduce_mean(x, 1)}, [None, None, 2]),
        "centred": function(lambda x: {"y": x - tf.reduce_mean(x, 0)}, [None, None, 2]),
        "with_rows": function(with_rows, [None, None, 2]),
        "single": function(lambda x: {"y": tf.ensure_shape(x, [1, None, 2])}, [None, None, 2]),
        "frozen": function(lambda x: {"y": x}, [None, 5, 2]),
        "integers": function(lambda x: {"y": x}, [None, None, 2], tf.int32),
        "renamed": function(lambda z: {"y": z}, [None, None, 2], name="z"),
        "flat": function(lambda x: {"y": x}, [None, None]),
        "a_label": function(
            lambda x: {"label": tf.where(tf.reduce_sum(x, [1, 2]) > 0, "high", "low")}, [None, None, 2]
        ),
    }
    target = tmp_path_factory.mktemp("models") / "1"
    tf.saved_model.save(module, str(target), signatures=dict(module.functions))
    return target


@pytest.fixture(scope="module")
def measured(folder):
    with clean_process() as process:
        process.load(folder)
        return measure_signatures(process, read_graph(folder).signature_def, EXAMPLE)


def shapes(measured):
    return [inputs["x"].shape for inputs in measured.answered]


def test_what_may_be_padded_and_cropped(measured):
    found = measured["serving_default"]
    assert found.batching == Batching(True, {"x": [1]}, {"y": 1}, "")
    assert shapes(found) == [(1, 6, 2), (4, 6, 2), (3, 6, 2)]
    assert (found.refused, found.note()) == ((), None)


def test_a_label_is_padded_where_another_signature_shows_that_it_may_be(measured, folder):
    assert measured["a_label"].batching == Batching(True, {"x": [1]}, {}, "")
    with clean_process() as process:
        process.load(folder)
        alone = {"a_label": read_graph(folder).signature_def["a_label"]}
        found = measure_signatures(process, alone, EXAMPLE)["a_label"]
    assert (found.batching.rows_independent, found.batching.padded_axes) == (True, {})
    assert "not known" in found.note() and "Masking" not in found.note()


def test_what_may_not_be_padded(measured):
    found = measured["mean"]
    assert (found.batching.rows_independent, found.batching.padded_axes) == (True, {})
    assert found.note().startswith("requests of different lengths are not run together: zeros behind axis 1 of x")


def test_what_may_not_be_run_together(measured):
    found = measured["centred"]
    assert not found.batching.rows_independent
    assert found.note().startswith("requests are not run together: y is different by up to")


def test_no_rows_may_be_refused(measured):
    found = measured["with_rows"]
    assert found.batching == Batching(True, {"x": [1]}, {}, "")
    assert len(found.refused) == 1 and found.refused[0].startswith("a request without rows: ")


def test_what_takes_a_row_alone(measured):
    found = measured["single"]
    assert shapes(found) == [(1, 6, 2)]
    assert not found.batching.rows_independent
    assert found.batching.why.startswith("it does not answer 4 rows: ")


@pytest.mark.parametrize("name", ["frozen", "integers", "renamed", "flat"])
def test_what_the_example_does_not_fit_is_not_measured(measured, name):
    assert measured[name] == Measured(Batching(False, why="not measured: the example request is of other inputs"))
    assert measured[name].note() is None


def test_answers_are_compared(folder):
    right = EXAMPLE["x"] * 2
    with clean_process() as process:
        process.load(folder)
        check_answers(process, [(EXAMPLE, {"y": right * 1.0005}), ({"x": EXAMPLE["x"][:0]}, {"y": right[:0]})])
        with pytest.raises(UserError, match="otherwise than the model: y is [-.0-9e]+ where it differs most, expected"):
            check_answers(process, [(EXAMPLE, {"y": right}), (EXAMPLE, {"y": right * 1.01})])
        with pytest.raises(UserError, match=r"cannot answer what the model answers, {'x': \[6, 2\]}: "):
            check_answers(process, [({"x": EXAMPLE["x"][0].astype("float64")}, {})])
