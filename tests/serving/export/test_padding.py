"""The measurement of batching, on functions whose behavior is known."""

import re

import numpy as np
import pytest

from keras_dl.serving.export.clean import ModelFailed
from keras_dl.serving.export.padding import Batching, measure, same

SEQUENCES = {"x": (None, None, 2)}
DRAW = np.random.default_rng(1)
EXAMPLE = {"x": DRAW.normal(size=(1, 9, 2)).astype("float32")}


def convolved(x):
    """Applies a filter of three steps twice without a mask, so the last step depends on the padding."""
    for _ in range(2):
        padded = np.pad(x, [(0, 0), (1, 1), (0, 0)])
        x = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:] + 0.3
    return x


def lengths(x):
    """Returns the number of steps of each row without trailing zeros."""
    used = (x != 0).any(-1)
    return np.where(used.any(1), used.shape[1] - used[:, ::-1].argmax(1), 0)


def test_a_function_that_ignores_other_rows_and_trailing_zeros():
    found = measure(lambda inputs: {"y": inputs["x"].sum((1, 2))}, SEQUENCES, EXAMPLE)
    assert found == Batching(True, {"x": [1]}, {}, "")


def test_outputs_that_padding_lengthens_are_cropped():
    def answer(inputs):
        return {"y": np.cumsum(inputs["x"], 1), "turned": inputs["x"].swapaxes(1, 2), "sum": inputs["x"].sum((1, 2))}

    assert measure(answer, SEQUENCES, EXAMPLE) == Batching(True, {"x": [1]}, {"y": 1, "turned": 2}, "")


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: x.mean(1), r"trailing zeros on axis 1 of x change y by up to \d"),
        (lambda x: x[:, -1], r"trailing zeros on axis 1 of x change y by up to \d"),
        (convolved, r"trailing zeros on axis 1 of x change y by up to \d"),
        (
            lambda x: np.cumsum(x[:, ::-1], 1)[:, ::-1] / x.shape[1],
            r"trailing zeros on axis 1 of x change y by up to \d",
        ),
        (lambda x: x[:, ::2], r"7 trailing zeros on axis 1 of x change the shape of y from \[8, 5, 2\] to \[8, 8, 2\]"),
        (lambda x: np.where(x[:, -1, 0] == 0, b"end", b"go").astype(object), "trailing zeros on axis 1 of x change y$"),
    ],
)
def test_functions_that_trailing_zeros_change(function, why):
    found = measure(lambda inputs: {"y": function(inputs["x"]), "sum": inputs["x"].sum((1, 2))}, SEQUENCES, EXAMPLE)
    assert (found.rows_independent, found.padded_axes, found.cropped_axes) == (True, {}, {})
    assert re.fullmatch(why + ".*", found.why)


def test_a_backward_recurrent_layer_with_and_without_a_mask():
    """Without a mask, the state changes in the padding; with a mask, it starts at the last step that is not zero."""

    def backwards(x, first):
        state, states = np.zeros_like(x[:, 0]) + first, []
        for step in range(x.shape[1])[::-1]:
            state = np.tanh(0.5 * state + x[:, step] + 0.1)
            states.insert(0, state)
        return np.stack(states, 1)

    def masked(inputs):
        x = inputs["x"]
        return {"y": np.concatenate([np.pad(backwards(row[None, :n], 0), [(0, 0), (0, len(row) - n), (0, 0)])
                                     for row, n in zip(x, lengths(x), strict=True)])}  # fmt: skip

    unmasked = measure(lambda inputs: {"y": backwards(inputs["x"], 0.0)}, SEQUENCES, EXAMPLE)
    assert unmasked.padded_axes == {} and "change y" in unmasked.why
    assert measure(masked, SEQUENCES, EXAMPLE) == Batching(True, {"x": [1]}, {"y": 1}, "")


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda x: x - x.mean(0), "y differs by up to"),
        (lambda x: x + np.arange(len(x))[:, None, None], "y differs by up to"),
        (lambda x: x[:, : max(lengths(x))], r"y has shape \[1, 9, 2\] instead of \[1, \d"),
        (lambda x: x.sum(), "y has no batch axis"),
        (lambda x: np.ones((3, 2)), "y has no batch axis"),
    ],
)  # fmt: skip
def test_functions_that_depend_on_other_rows(function, why):
    found = measure(lambda inputs: {"y": np.asarray(function(inputs["x"]))}, SEQUENCES, EXAMPLE)
    assert (found.rows_independent, found.padded_axes, found.cropped_axes) == (False, {}, {})
    assert re.match(why, found.why)


def test_inputs_without_rows():
    shapes = {"x": (None, None, 2), "steps": ()}
    request = {**EXAMPLE, "steps": np.array(3, "int32")}
    assert (
        measure(lambda inputs: {"y": inputs["x"]}, shapes, request).why == "an input has no batch axis of unknown size"
    )
    assert not measure(lambda inputs: {"y": inputs["x"]}, {"x": (4, None, 2)}, EXAMPLE).rows_independent
    assert not measure(lambda inputs: {"y": inputs["x"]}, {"x": None}, EXAMPLE).rows_independent


def test_each_axis_of_unknown_size_is_measured():
    shapes, request = {"image": (None, None, None)}, {"image": DRAW.normal(size=(2, 5, 7)).astype("float32")}
    of_columns = measure(lambda inputs: {"y": inputs["image"].mean(1)}, shapes, request)
    assert (of_columns.padded_axes, of_columns.cropped_axes) == ({"image": [2]}, {"y": 1})
    assert of_columns.why.startswith("trailing zeros on axis 1 of image change y")
    both = measure(lambda inputs: {"y": inputs["image"].sum((1, 2))}, shapes, request)
    assert both == Batching(True, {"image": [1, 2]}, {}, "")


def test_only_one_of_two_axes_that_lengthen_the_same_output_is_padded():
    """The server crops an output along a single axis."""
    shapes, request = {"image": (None, None, None)}, {"image": DRAW.normal(size=(2, 5, 7)).astype("float32")}
    found = measure(lambda inputs: {"y": inputs["image"] * 2}, shapes, request)
    assert (found.padded_axes, found.cropped_axes) == ({"image": [1]}, {"y": 1})
    assert "lengthen a different axis" in found.why


def test_a_length_input():
    """Any length up to the number of steps is allowed; later steps are ignored."""

    def answer(inputs):
        x, length = inputs["x"], inputs["length"]
        if (length > x.shape[1]).any() or (length < 0).any():
            raise ModelFailed("length must be from 0 to the number of steps")
        mask = np.arange(x.shape[1]) < length[:, None]
        return {"mean": (x * mask[:, :, None]).sum(1) / np.maximum(length, 1)[:, None]}

    shapes, request = {"x": (None, None, 2), "length": (None,)}, {**EXAMPLE, "length": np.array([9], "int32")}
    assert measure(answer, shapes, request) == Batching(True, {"x": [1]}, {}, "")


def test_integers_of_which_only_one_value_is_allowed():
    def answer(inputs):
        if (inputs["kind"] != 5).any():
            raise ModelFailed("kind must be 5")
        return {"y": inputs["x"].sum((1, 2))}

    shapes, request = {**SEQUENCES, "kind": (None,)}, {**EXAMPLE, "kind": np.array([5])}
    assert measure(answer, shapes, request).padded_axes == {"x": [1]}


def test_padding_that_is_refused():
    def answer(inputs):
        if inputs["x"].shape[1] > 9:
            raise ModelFailed("too long")
        return {"y": inputs["x"].sum((1, 2))}

    assert measure(answer, SEQUENCES, EXAMPLE).why == "it rejects trailing zeros on axis 1 of x: too long"


def test_strings():
    def length(text):
        return np.array([len(each) for each in text])

    request = {"text": np.array([b"a few words"], object)}
    alone = measure(lambda inputs: {"n": length(inputs["text"])}, {"text": (None,)}, request)
    assert alone == Batching(True, {}, {}, "")
    together = measure(
        lambda inputs: {"n": length(inputs["text"]) / length(inputs["text"]).max()}, {"text": (None,)}, request
    )
    assert not together.rows_independent


def test_words_are_padded_with_empty_strings():
    def answer(inputs):
        assert all(isinstance(each, bytes) for each in inputs["words"].ravel())
        joined = [b"".join(row) for row in inputs["words"]]
        return {"joined": np.array(joined, object), "thirds": np.array([len(each) / 3 for each in joined])}

    request = {"words": np.array([[b"a", b"few", b"words"]], object)}
    assert measure(answer, {"words": (None, None)}, request).padded_axes == {"words": [1]}


POSITIVE = {"x": np.abs(EXAMPLE["x"])}
ZEROS = {"x": np.zeros_like(EXAMPLE["x"])}


@pytest.mark.parametrize("example", [POSITIVE, {"x": -POSITIVE["x"]}, EXAMPLE, ZEROS])
@pytest.mark.parametrize("function", [lambda x: x.max(1), lambda x: x.min(1), lambda x: x.mean(1)])
def test_padding_that_only_changes_rows_other_than_the_example(example, function):
    found = measure(lambda inputs: {"y": function(inputs["x"])}, SEQUENCES, example)
    assert (found.rows_independent, found.padded_axes) == (True, {})
    assert found.why.startswith("trailing zeros on axis 1 of x change y by up to ")


@pytest.mark.parametrize("kind", [str, bool, int, float])
def test_a_label_alone_does_not_prove_that_padding_is_safe(kind):
    """Padding may change the label of a row closer to the decision boundary."""

    def label(x):
        return np.array([kind(value > 0) for value in x.sum((1, 2))])

    found = measure(lambda inputs: {"label": label(inputs["x"])}, SEQUENCES, EXAMPLE)
    assert (found.rows_independent, found.padded_axes) == (True, {})
    assert found.why.startswith("not known whether trailing zeros on axis 1 of x change")
    with_a_score = measure(
        lambda inputs: {"label": label(inputs["x"]), "score": inputs["x"].sum((1, 2))}, SEQUENCES, EXAMPLE
    )
    assert with_a_score.padded_axes == {"x": [1]}
    proven = measure(lambda inputs: {"label": label(inputs["x"])}, SEQUENCES, EXAMPLE, proven={"x": [1]})
    assert proven == Batching(True, {"x": [1]}, {}, "")


def test_fractions_that_depend_on_another_input_do_not_prove_that_padding_is_safe():
    shapes, request = {**SEQUENCES, "level": (None,)}, {**EXAMPLE, "level": np.array([0.3], "float32")}

    def answer(inputs):
        return {"y": inputs["level"] + (inputs["x"].mean((1, 2)) > 1e6)}

    assert "not known whether trailing zeros on axis 1 of x change" in measure(answer, shapes, request).why


def test_constant_answers_do_not_prove_that_rows_are_independent():
    found = measure(lambda inputs: {"y": np.zeros(len(inputs["x"]))}, SEQUENCES, EXAMPLE)
    assert not found.rows_independent
    assert found.why.startswith("not known whether rows depend on each other")


@pytest.mark.parametrize(
    ("shape", "example", "function"),
    [
        ((None, None, 2), ZEROS["x"], lambda x: x.mean(1) - x.mean((0, 1))),
        ((None,), np.array([0], "int32"), lambda speaker: speaker + speaker[0]),
        ((None,), np.array([False]), lambda flag: np.arange(1) + flag + flag.any()),
        ((None,), np.array([b"7"], object), lambda text: np.array([len(each) / max(map(len, text)) for each in text])),
        ((None,), np.array([b""], object), lambda text: np.array([len(each) + max(map(len, text)) for each in text])),
        ((None,), np.array([b"one"], object), lambda text: np.array([text[0][:1] + each for each in text], object)),
        ((None, None, 2), EXAMPLE["x"], lambda x: x.sum((1, 2)) * (len(x) < 9)),
    ],
    ids=["zeros", "class 0", "false", "a letter", "no text", "a word", "more than eight rows"],
)
def test_dependence_on_other_rows_that_the_example_does_not_show(shape, example, function):
    found = measure(lambda inputs: {"y": function(inputs["a"])}, {"a": shape}, {"a": example})
    assert not found.rows_independent and found.why.endswith(" with other rows in the batch")


def test_lengths_that_must_be_positive():
    """The sum of each row up to the longest length depends on other rows."""

    def answer(inputs):
        if (inputs["length"] < 1).any():
            raise ModelFailed("a length must be positive")
        return {"y": inputs["x"][:, : inputs["length"].max()].sum((1, 2))}

    shapes, request = {**SEQUENCES, "length": (None,)}, {**EXAMPLE, "length": np.array([9], "int32")}
    assert not measure(answer, shapes, request).rows_independent


@pytest.mark.parametrize(
    ("before", "after", "equal"),
    [
        ([1.0, 1000.0], [1.001, 1000.0], True),  # within 1e-5 of the largest value
        ([1.0, 1000.0], [1.1, 1000.0], False),
        ([np.nan, np.inf], [np.nan, np.inf], True),
        ([np.nan], [0.0], False),
        ([0.0], [1e-9], False),
        ([1, 2], [1, 2], True),
        ([1, 2], [1, 3], False),
        ([[1.0]], [1.0], False),
        ([], [], True),
    ],
)
def test_same(before, after, equal):
    assert same(np.array(before), np.array(after), 1e-4, 1e-5) is equal
