"""Parsing of values on the command line."""

import pytest

from keras_dl.arguments import parse, parse_values
from keras_dl.errors import UserError


def test_values_are_text_under_any_name():
    arguments = ["rate=3e-4", "path=a=b", "empty=", "units[0]=8", "encoder/units=4", "keep (%)=50", "größe=-2"]
    assert parse_values(arguments) == {
        "rate": "3e-4",
        "path": "a=b",
        "empty": "",
        "units[0]": "8",
        "encoder/units": "4",
        "keep (%)": "50",
        "größe": "-2",
    }
    assert parse_values([]) == {}


def test_names_with_any_characters_are_accepted_as_options_and_between_options():
    options = parse(
        ["train", "f.py", "--units[0]", "8", "--seed", "3", "keep (%)=50", "--encoder/units=4", "--my-cell=a"]
    )
    assert options.values == ["units[0]=8", "keep (%)=50", "encoder/units=4", "my_cell=a"] and options.seed == 3


@pytest.mark.parametrize("argument", ["rate", "=3", " =3", "--rate=3"])
def test_arguments_that_are_not_assignments_are_rejected(argument):
    with pytest.raises(UserError, match=f"expected name=value.*Received: '{argument}'"):
        parse_values([argument])
