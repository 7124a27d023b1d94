"""Hyperparameters on the command line."""

import ast

from keras_dl.errors import UserError


def parse_values(arguments: list[str]) -> dict:
    """`["learning_rate=3e-4", "cell=lstm"]` -> `{"learning_rate": 0.0003, "cell": "lstm"}`.

    Raises:
        UserError: if an argument is not `name=value`.
    """
    values = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals or not name.isidentifier():
            raise UserError(f"expected name=value, such as learning_rate=0.001. Received: {argument!r}")
        try:
            values[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[name] = text
    return values
