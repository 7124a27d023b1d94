"""Requests that share a run; joining inputs and splitting outputs."""

import numpy as np
import pytest

from keras_dl.serving.server.engine import LoadedModel
from keras_dl.serving.server.sharing import Sharing, find_sharing

EQUAL_SHAPES = Sharing()
BY_LENGTH = Sharing({"features": [1]}, {"logits": 1})


def features(rows, length, width=2, dtype=np.float32):
    return {"features": np.arange(1, rows * length * width + 1).reshape(rows, length, width).astype(dtype)}


@pytest.mark.parametrize(
    ("first", "second", "equal_shapes", "by_length"),
    [
        (features(1, 5), features(3, 5), True, True),
        (features(1, 5), features(1, 6), False, True),
        (features(1, 64), features(1, 3), False, True),
        (features(1, 5), features(1, 5, width=3), False, False),
        (features(1, 5), features(1, 5, dtype=np.float64), False, False),
    ],
)
def test_equal_keys_share_a_run(first, second, equal_shapes, by_length):
    assert (EQUAL_SHAPES.key(first) == EQUAL_SHAPES.key(second)) is equal_shapes
    assert (BY_LENGTH.key(first) == BY_LENGTH.key(second)) is by_length


@pytest.mark.parametrize(
    "inputs",
    [
        features(0, 5),
        features(2, 0),
        {"x": np.float32(1)},
        {"x": np.ones([2, 3]), "y": np.ones([3, 3])},
        {"x": np.ones([2, 3]), "y": np.ones([])},
        {},
    ],
    ids=["no rows", "no steps", "scalar", "different rows", "scalar and rows", "no inputs"],
)
def test_irregular_requests_run_alone(inputs):
    assert BY_LENGTH.key(inputs) is None


@pytest.mark.parametrize("shape", [(3,), (1, 5), (1, 5, 2, 1)])
def test_a_request_of_another_rank_runs_alone(shape):
    inputs = {"features": np.ones(shape, np.float32)}
    assert Sharing({"features": [1]}, {"logits": 1}, {"features": 3}).key(inputs) is None
    assert Sharing(ranks={"features": 3}).key(inputs) is None
    assert Sharing({"features": [2]}).key({"features": np.ones([1, 5])}) is None


def test_inputs_with_different_lengths_are_not_padded():
    padded = {"a": [1], "b": [1]}
    short, long = ({"a": np.ones([1, n, 2]), "b": np.ones([1, m, 2])} for n, m in ((5, 7), (6, 8)))
    equal, longer = ({"a": np.ones([1, n, 2]), "b": np.ones([1, n, 2])} for n in (5, 6))
    both = Sharing(padded, {"logits": 1})
    assert both.key(short) != both.key(long)
    assert both.key(short) == both.key(short)
    assert both.key(equal) == both.key(longer) != both.key(short)


def test_requests_of_one_length_are_concatenated_and_split():
    requests = [features(1, 3), features(2, 3)]
    joined = EQUAL_SHAPES.join(requests, 3)
    np.testing.assert_array_equal(joined["features"], np.concatenate([request["features"] for request in requests]))
    one, two = EQUAL_SHAPES.split({"sum": joined["features"].sum((1, 2)), "same": joined["features"]}, requests, 3)
    np.testing.assert_array_equal(one["same"], requests[0]["features"])
    np.testing.assert_array_equal(two["sum"], requests[1]["features"].sum((1, 2)))


def test_a_single_request_is_not_copied():
    request = features(2, 3)
    assert BY_LENGTH.join([request], 2)["features"] is request["features"]


def test_inputs_are_padded_to_the_longest_and_outputs_cropped():
    requests = [features(1, 3), features(2, 5), features(1, 4)]
    joined = BY_LENGTH.join(requests, 4)["features"]
    assert joined.shape == (4, 5, 2) and joined.dtype == np.float32
    assert not joined[0, 3:].any() and not joined[3, 4:].any()
    outputs = {"logits": joined * 2, "total": joined.sum(1)}
    for request, answer in zip(requests, BY_LENGTH.split(outputs, requests, 4), strict=True):
        np.testing.assert_array_equal(answer["logits"], request["features"] * 2)
        np.testing.assert_array_equal(answer["total"], request["features"].sum(1))
        assert answer["logits"].flags.c_contiguous  # needed for JSON


def test_an_output_longer_than_the_input_is_cropped_by_the_padding():
    requests = [features(1, 3), features(1, 5)]
    joined = BY_LENGTH.join(requests, 2)["features"]
    longer = np.concatenate([joined, np.ones([2, 1, 2])], axis=1)  # one frame more than the input
    short, long = BY_LENGTH.split({"logits": longer}, requests, 2)
    assert (short["logits"].shape, long["logits"].shape) == ((1, 4, 2), (1, 6, 2))


@pytest.mark.parametrize("lengths", [(3, 3), (3, 5)])
def test_a_batch_is_filled_up_with_copies_of_its_first_row(lengths):
    requests = [features(1, length) for length in lengths]
    joined = BY_LENGTH.join(requests, 4)["features"]
    assert joined.shape == (4, max(lengths), 2)
    np.testing.assert_array_equal(joined[2:], np.repeat(joined[:1], 2, axis=0))
    answers = BY_LENGTH.split({"logits": joined}, requests, 4)
    assert [answer["logits"].shape for answer in answers] == [(1, length, 2) for length in lengths]


def test_strings_keep_trailing_zero_bytes():
    requests = [{"text": np.array([text], object)} for text in (b"a\0", b"longer")]
    joined = EQUAL_SHAPES.join(requests, 2)
    assert joined["text"].tolist() == [b"a\0", b"longer"]


@pytest.mark.parametrize("output", [np.ones([]), np.ones([2, 3]), np.ones([4, 3])], ids=str)
def test_outputs_with_the_wrong_number_of_rows_are_rejected(output):
    with pytest.raises(ValueError, match="rows"):
        EQUAL_SHAPES.split({"y": output}, [features(1, 3), features(2, 3)], 3)


@pytest.fixture(scope="module")
def models(model_folders):
    return {
        name: LoadedModel(name, version, model_folders[name] / str(version))
        for name, version in (("hp2", 123), ("text", 1), ("sequences", 7))
    }


def with_manifest(model, **batching):
    model.manifest = {"signatures": {"serving_default": {"batching": batching}}}
    return model


def test_sharing_follows_the_manifest(models):
    model, ranks = models["sequences"], {"features": 3, "length": 1}
    model.manifest = {}
    assert find_sharing(model, "serving_default", every_signature=False) is None
    assert find_sharing(with_manifest(model, rows_independent=False), "serving_default", False) is None
    assert find_sharing(with_manifest(model, rows_independent=True), "serving_default", False) == Sharing(ranks=ranks)
    recorded = {
        "rows_independent": True,
        "padded_axes": {"features": [1], "length": [], "none": [1]},
        "cropped_axes": {"total": 1},
    }
    found = find_sharing(with_manifest(model, **recorded), "serving_default", False)
    assert found == Sharing({"features": [1]}, {"total": 1}, ranks)


def test_strings_are_never_padded(models):
    model = with_manifest(models["text"], rows_independent=True, padded_axes={"text": [1]}, cropped_axes={"length": 1})
    assert find_sharing(model, "serving_default", False) == Sharing(ranks={"text": 1})


@pytest.mark.parametrize(
    ("name", "signature_name", "ranks"),
    [
        ("sequences", "serving_default", {"features": 3, "length": 1}),
        ("text", "serving_default", {"text": 1}),
        ("text", "joined", None),  # a scalar output
        ("hp2", "serving_default", None),  # of any rank
        ("hp2", "product", {"x": 2}),
        ("hp2", "spin", None),
    ],
)
def test_tensorflow_servings_rule(models, name, signature_name, ranks):
    models[name].manifest = {}
    found = find_sharing(models[name], signature_name, every_signature=True)
    assert found == (ranks and Sharing(ranks=ranks))
