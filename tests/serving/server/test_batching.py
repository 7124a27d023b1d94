"""Reading TensorFlow Serving's batching parameters."""

import pytest

from keras_dl.errors import UserError
from keras_dl.serving.server.batching import Batching, read_batching


def test_missing_parameters_have_defaults_and_every_signature_is_batched():
    assert read_batching("") == Batching(every_signature=True)
    assert not Batching().every_signature


def test_tensorflow_servings_example():
    text = """
        max_batch_size { value: 128 }
        batch_timeout_micros { value: 0 }
        max_enqueued_batches { value: 1000000 }
        num_batch_threads { value: 8 }  # as many as cores
        allowed_batch_sizes : [32, 128]
        pad_variable_length_inputs: true
        thread_pool_name { value: "pool" }
        enable_large_batch_splitting { value: true }
    """
    expected = Batching(
        max_batch_size=128,
        timeout_micros=0,
        max_enqueued_batches=1000000,
        num_threads=8,
        allowed_batch_sizes=(32, 128),
        every_signature=True,
    )
    assert read_batching(text) == expected


def test_the_largest_allowed_size_is_the_maximum_batch_size():
    batching = read_batching("allowed_batch_sizes: 2 allowed_batch_sizes: 8")
    assert (batching.max_batch_size, batching.allowed_batch_sizes) == (8, (2, 8))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("max_batch_size { value: 0 }", "max_batch_size of at least 1. Received: 0"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros of at least 0. Received: -1"),
        ("num_batch_threads { value: 0 }", "num_batch_threads of at least 1"),
        ("max_enqueued_batches { value: -5 }", "max_enqueued_batches of at least 1"),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: [2, 4]",
            "allowed_batch_sizes that end with 8. Received: 2, 4",
        ),
        ("allowed_batch_sizes: [4, 2]", "allowed_batch_sizes that end with 2. Received: 4, 2"),
        ("allowed_batch_sizes: [2, 2]", "Received: 2, 2"),
        ("allowed_batch_sizes: [0, 2]", "Received: 0, 2"),
        ("max_batch_size: 8", "line:column 1:"),
        ("max_batch_size { value: 8 }\nbatch_size { value: 8 }", "line:column 2:1"),
    ],
)
def test_invalid_parameters_are_rejected(text, problem):
    with pytest.raises(UserError) as caught:
        read_batching(text)
    assert problem in str(caught.value)
