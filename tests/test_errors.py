"""One-line reasons of errors."""

from pathlib import Path

import pytest
import tensorflow as tf

from keras_dl.errors import reason_of, shown_path


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
        (ValueError("Are 2 and 3 for '{{node a/b}} = Sub[T=DT_FLOAT](x, y)' with input shapes: [?,2], [?,3]."),
         "Are 2 and 3 with input shapes: [?,2], [?,3]."),
        (ValueError("in user code:\n\n    File \"a.py\", line 3, in f  *\n        x\n\n    TypeError: no x\n"),
         "TypeError: no x"),
        (tf.errors.InvalidArgumentError(None, None, "Graph execution error:\n\nDetected at node a defined at (most "
         "recent call last):\n  File \"a.py\", line 3, in f\n\nlabel 7 is wrong\n\t [[{{node a}}]] [Op:f]"),
         "label 7 is wrong"),
        (tf.errors.UnknownError(None, None, "{{function_node __wrapped__IteratorGetNext}} Error in user-defined "
         "function passed to MapDataset:9 transformation with iterator: Iterator::Root::Map: KeyError: 'x'\nTrace"),
         "KeyError: 'x'"),
        (tf.errors.InvalidArgumentError(None, None, "one; two"), "one; two"),
    ],
)  # fmt: skip
def test_reason_of(error, reason):
    assert reason_of(error) == reason


def test_paths_are_shown_relative_to_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "pipelines" / "line.py") == Path("pipelines/line.py")
    assert shown_path(Path("/elsewhere/line.py")) == Path("/elsewhere/line.py")
