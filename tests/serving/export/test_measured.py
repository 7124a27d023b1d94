"""Comparison of a loaded export with the model's answers, and the measurements of its signatures."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dl.errors import UserError
from keras_dl.serving.export.clean import clean_process
from keras_dl.serving.export.measured import Measured, check_answers, difference_of, measure_signatures
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
        "centered": function(lambda x: {"y": x - tf.reduce_mean(x, 0)}, [None, None, 2]),
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


def test_a_signature_that_may_be_padded_and_cropped(measured):
    found = measured["serving_default"]
    assert found.batching == Batching(True, {"x": [1]}, {"y": 1}, "")
    assert shapes(found) == [(1, 6, 2), (4, 6, 2), (3, 6, 2)]
    assert (found.refused, found.note()) == ((), None)


def test_a_label_may_be_padded_if_another_signature_proves_it(measured, folder):
    assert measured["a_label"].batching == Batching(True, {"x": [1]}, {}, "")
    with clean_process() as process:
        process.load(folder)
        alone = {"a_label": read_graph(folder).signature_def["a_label"]}
        found = measure_signatures(process, alone, EXAMPLE)["a_label"]
    assert (found.batching.rows_independent, found.batching.padded_axes) == (True, {})
    assert "not known" in found.note() and "Masking" not in found.note()


def test_a_signature_that_must_not_be_padded(measured):
    found = measured["mean"]
    assert (found.batching.rows_independent, found.batching.padded_axes) == (True, {})
    assert found.note().startswith("requests of different lengths are not batched: trailing zeros on axis 1 of x")


def test_a_signature_that_must_not_be_batched(measured):
    found = measured["centered"]
    assert not found.batching.rows_independent
    assert found.note().startswith("requests are not batched: y differs by up to")


def test_a_request_without_rows_may_be_refused(measured):
    found = measured["with_rows"]
    assert found.batching == Batching(True, {"x": [1]}, {}, "")
    assert len(found.refused) == 1 and found.refused[0].startswith("a request without rows: ")


def test_a_signature_that_only_accepts_one_row(measured):
    found = measured["single"]
    assert shapes(found) == [(1, 6, 2)]
    assert not found.batching.rows_independent
    assert found.batching.why.startswith("it does not answer 4 rows: ")


@pytest.mark.parametrize("name", ["frozen", "integers", "renamed", "flat"])
def test_signatures_with_other_inputs_are_not_measured(measured, name):
    assert measured[name] == Measured(
        Batching(False, why="not measured: the example request does not match its inputs")
    )
    assert measured[name].note() is None


def test_answers_are_compared(folder):
    right = EXAMPLE["x"] * 2
    with clean_process() as process:
        process.load(folder)
        check_answers(process, [(EXAMPLE, {"y": right * 1.0005}), ({"x": EXAMPLE["x"][:0]}, {"y": right[:0]})])
        with pytest.raises(
            UserError, match="differ from the model's: y is [-.0-9e]+ instead of [-.0-9e]+ at the largest"
        ):
            check_answers(process, [(EXAMPLE, {"y": right}), (EXAMPLE, {"y": right * 1.01})])
        with pytest.raises(UserError, match=r"fails on a request that the model answers, {'x': \[6, 2\]}: "):
            check_answers(process, [({"x": EXAMPLE["x"][0].astype("float64")}, {})])


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([1.0, 2.0, 3.0], [1.0, 2.5, 3.2], "is 2.5 instead of 2 at the largest difference; 2 of 3 values differ"),
        ([1.0, np.nan], [1.0, 7.0], "is 7 instead of nan at the largest difference; 1 of 2 values differ"),
        ([np.nan, 1.0], [np.nan, 2.0], "is 2 instead of 1 at the largest difference; 1 of 2 values differ"),
        ([1, 2], [1, 3], "is 3 instead of 2 at the largest difference; 1 of 2 values differ"),
        ([[1.0]], [1.0], "has the shape [1], expected [1, 1]"),
        (np.array([b"a"], object), np.array([b"b"], object), "is b'b' instead of b'a' at the largest difference; 1 of"),
        ([1.0, np.nan], [1.00001, np.nan], None),
        (2.0, 3.0, "is 3 instead of 2 at the largest difference; 1 of 1 values differ"),
    ],
)
def test_differences_are_described(before, after, expected):
    found = difference_of(before, after)
    assert found == expected or found.startswith(expected)
