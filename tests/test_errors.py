"""One-line reasons of errors."""

import pytest
import tensorflow as tf

from keras_dl.errors import reason_of


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError(""), "ValueError"),
        (ValueError("\n\n  it is wrong\nmore"), "it is wrong"),
        (OSError(28, "No space left on device", "/x"), "No space left on device"),
        (tf.errors.InternalError(None, None, ""), "InternalError"),
        (tf.errors.ResourceExhaustedError(None, None, "{{function_node __wrapped__SaveV2_device}} /a/b; No space left "
                                          "on device [Op:SaveV2] name: "), "No space left on device"),
        (tf.errors.InvalidArgumentError(None, None, "Graph execution error:\n\n{{node a/b}} must be 3; is 4"), "is 4"),
        (tf.errors.InvalidArgumentError(None, None, "{{node a/b}} must be 3"), "must be 3"),
        (tf.errors.InvalidArgumentError(None, None, "one; two"), "one; two"),
    ],
)  # fmt: skip
def test_reason_of(error, reason):
    assert reason_of(error) == reason
