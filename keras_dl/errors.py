"""The exception that the command line turns into a one-line message, and the line of any error that names its cause."""

import re


class UserError(ValueError):
    """The caller's input is wrong; the message says what was expected and what was received.

    The command line prints only the message and exits with code 2. Any other exception is a bug in this project or in
    the pipeline's own code and keeps its traceback.
    """


def reason_of(error: BaseException) -> str:
    """Returns the line of an error's text that names the cause, or the error's class name if it has no text.

    The node names that TensorFlow adds to its messages are removed.

    Example:

    >>> reason_of(ValueError("the shape is wrong\\ndetails"))
    'the shape is wrong'
    """
    text = str(getattr(error, "strerror", None) or getattr(error, "message", None) or error)
    lines = [line.strip() for line in text.splitlines() if not line.startswith("Graph execution error")]
    line = next((line for line in lines if line), type(error).__name__)
    if "{{" in line:  # {{function_node ...}} FILE; File too large [Op:SaveV2]
        line = re.sub(r"\s*\[Op:\w+\].*", "", line.rpartition(";")[2].rpartition("}}")[2]).strip() or line
    return line
