"""Parsing of values on the command line."""

import pytest

from keras_dl.arguments import parse_values
from keras_dl.errors import UserError


def test_values_are_read_as_python_or_text():
    arguments = ["rate=3e-4", "units=32", "bias=True", "cell=lstm", "path=a=b", "empty=", "negative=-2", "quoted='7'"]
    assert parse_values(arguments) == {
        "rate": 3e-4,
        "units": 32,
        "bias": True,
        "cell": "lstm",
        "path": "a=b",
        "empty": "",
        "negative": -2,
        "quoted": "7",
    }
    assert parse_values([]) == {}


@pytest.mark.parametrize("argument", ["rate", "=3", "a b=3", "--rate=3", "1=2"])
def test_arguments_that_are_not_assignments_are_rejected(argument):
    with pytest.raises(UserError, match=f"expected name=value.*Received: '{argument}'"):
        parse_values([argument])
